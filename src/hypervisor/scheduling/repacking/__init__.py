"""Repacking: moving what may be moved so that more pending deployments fit, bounded in steps.

`packing` is a small bin packing problem with plain tables of its own. `local_search` solves it: ejection
chains, then large neighbourhood search, then move minimisation. `exact_solver` gives what the search found to
CP-SAT, as a `cp_layout` of a `cp_model`. `solvers` knows both by name. These modules know nothing of queues,
quotas and nominations. `subproblem`, `pass_optimizer` and the consolidation in `defragmentation` decide what
may move where.
"""
