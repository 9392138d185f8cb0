"""The scheduler: loads a snapshot of a cluster, plans, commits what still fits, stores the decision."""
