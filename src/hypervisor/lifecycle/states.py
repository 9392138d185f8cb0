"""The states of a deployment and the legal edges between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    BLOCKED = "BLOCKED"
    """Waits for its dependencies."""
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELLED = "CANCELLED"


WAITING = frozenset({State.BLOCKED, State.QUEUED})
LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""States with a live attempt, which holds capacity."""
ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED, State.CANCELLED})

LEGAL_EDGES: frozenset[tuple[State, State]] = frozenset(
    {
        (State.BLOCKED, State.QUEUED),
        (State.BLOCKED, State.CANCELLED),
        (State.QUEUED, State.BLOCKED),
        (State.QUEUED, State.STARTING),
        (State.QUEUED, State.CANCELLED),
        (State.STARTING, State.RUNNING),
        (State.STARTING, State.STOPPING),
        (State.STARTING, State.FAILED),
        (State.STARTING, State.QUEUED),
        (State.RUNNING, State.SUCCEEDED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.STOPPING),
        (State.RUNNING, State.QUEUED),
        (State.STOPPING, State.STOPPED),
        (State.STOPPING, State.CANCELLED),
        (State.STOPPING, State.QUEUED),
        (State.STOPPING, State.SUCCEEDED),
        (State.STOPPING, State.FAILED),
        *((ended, waiting) for ended in ENDED for waiting in WAITING),
    }
)


def is_legal(source: State, target: State) -> bool:
    """Whether a deployment may go from `source` to `target` in one step."""
    return (source, target) in LEGAL_EDGES
