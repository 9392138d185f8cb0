"""The states of a deployment."""

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "CANCELLED"})
WAITING = ("BLOCKED", "QUEUED")
OCCUPYING = ("STARTING", "RUNNING", "STOPPING")
"""The states before an end that hold resources."""
ACTIVE = (*WAITING, *OCCUPYING)
"""The states before an end, in their usual order."""
DELETED = "DELETED"
"""The end of a stream whose deployment was deleted."""
