"""Maintenance: retention, deletions in batches, removal of ended instances, the queue index."""
