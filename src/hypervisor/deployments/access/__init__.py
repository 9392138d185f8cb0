"""Permissions on deployments, their queries, and their lists."""
