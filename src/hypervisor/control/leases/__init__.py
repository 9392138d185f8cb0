"""Which server schedules which cluster and drives which engine: acquire, renew, rebalance, release.

Every loop checks `held` before it acts. Nothing here depends on what the loops do.
"""
