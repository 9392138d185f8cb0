"""Repacking: moving what may be moved so that more of what waits fits, bounded in steps.

A small bin packing problem with its own plain tables (`packing`), and a search over it: chains of moves
(`chains`), then nodes emptied and filled again (`neighbourhoods`), then fewer moves for the same result
(`fewer_moves`). `exact` hands on to a solver what the search has found: as a `layout`, of which the `program`
speaks. `packers` knows both by name. None of these knows of queues, quotas and reservations: `ground`,
`improvement` and the consolidation in `defragmentation` say what may be moved and where to.
"""
