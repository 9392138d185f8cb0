"""The control loops: `scheduler`, `reconciler` and `maintenance`, each bound to its `leases`.

Each loop loads, decides and applies: a short read, pure functions without a session, then a guarded
transaction. A hint wakes a loop at once; no loop depends on a hint. `loops` starts and stops them together.
"""
