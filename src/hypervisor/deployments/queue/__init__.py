"""Positions in the queue of a cluster, the index that serves them, and inherited priorities."""
