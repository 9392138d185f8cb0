"""Which server schedules which cluster and drives which engine: acquire, renew, rebalance, release.

Every loop asks `held` before it acts. Nothing here knows what the loops do.
"""
