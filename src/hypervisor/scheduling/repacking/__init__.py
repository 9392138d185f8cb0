"""Repacking: moving deployments so that more pending ones fit, with a step budget.

`packing` is a small bin packing problem in plain tables. `local_search` solves it: ejection chains, then
large neighbourhood search, then move minimisation. `exact_solver` passes the result to CP-SAT, as a
`cp_layout` of a `cp_model`. `solvers` is the registry of both. These modules do not depend on queues, quotas
or nominations. `subproblem`, `pass_optimizer` and the consolidation in `defragmentation` decide what may move
where.
"""
