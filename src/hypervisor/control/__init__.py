"""The control loops: `scheduler`, `reconciler` and `maintenance`, each bound to its `leases`.

Each loop works as load, decide, apply: a short transaction, pure functions without a session, then a guarded
transaction. A hint wakes a loop at once; no loop depends on a hint. `loops` starts and stops them together.
"""
