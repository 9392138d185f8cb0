"""The scheduler: load a snapshot of a cluster, plan, commit what still fits, record the decision."""
