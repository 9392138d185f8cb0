"""Which server schedules which cluster and drives which engine: acquire, renew, rebalance, release.

Every loop checks `held` before it acts. This package does not depend on the loops.
"""
