"""Preemption: which evictions are legal, what they cost, and the cheapest set of victims that makes room.

`legality` is the one rule. `victim_search` chooses the search: `single_node_search` for clusters of one
organization, `quota_search` and `gang_search` where quotas decide. `nominations` reserves the capacity for
the preemptor.
"""
