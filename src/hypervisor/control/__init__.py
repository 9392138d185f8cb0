"""The loops: the scheduler (snapshot, plan, commit), the reconciler (runtimes) and the janitor.

Each works as load, decide, apply: a short transaction, pure functions without a session, then a guarded
transaction. A hint makes a loop look at once; nothing depends on a hint arriving.
"""
