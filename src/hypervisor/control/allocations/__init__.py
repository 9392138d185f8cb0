"""Capacity as rows: lock the nodes, check the fit, insert and delete allocations and GPU claims."""
