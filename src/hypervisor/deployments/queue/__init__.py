"""Positions in the queue of a cluster, updates of the queue index, and inherited priorities."""
