"""Repacking: moving what may be moved so that more of what waits fits, bounded in steps.

A small bin packing problem with its own plain tables (`packing`), and a search over it: chains of moves
(`chains`), then nodes emptied and filled again (`neighbourhoods`), then fewer moves for the same result
(`fewer_moves`). `exact` hands on to a solver what the search has found: as a `layout`, which the `program`
speaks of. `packers` knows both by name. It knows nothing of queues, quotas and reservations: `improvement.py` and `consolidation.py`
beside this folder say what may be moved and where to.
"""
