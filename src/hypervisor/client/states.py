"""The states of a deployment."""

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "CANCELLED"})
WAITING = ("BLOCKED", "QUEUED")
OCCUPYING = ("STARTING", "RUNNING", "STOPPING")
"""The states before an end that hold resources."""
DELETED = "DELETED"
"""The end of a stream whose deployment was deleted."""
