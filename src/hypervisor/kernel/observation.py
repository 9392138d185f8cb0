"""The state of an instance as its engine reports it. Shared by the runtimes and the lifecycle rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ObservedState(StrEnum):
    ABSENT = "absent"
    """The engine reported that it has no such instance. Never assumed."""
    CREATED = "created"
    """The instance exists and was not started yet."""
    RUNNING = "running"
    EXITED = "exited"


class Health(StrEnum):
    """What the health check of a running instance reports."""

    STARTING = "starting"
    """No result yet, within the start period of the check."""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A declared port, and its address on this machine."""

    port: int
    host: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of one instance as its engine reports it. Times are UTC, None if unknown.

    `exit_code` is None while the instance runs, and for an instance that vanished without an observed exit;
    `message` then explains it. An end by signal N is 128 + N. `health` is None for an instance that does not
    run or has no health check.
    """

    state: ObservedState
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str | None = None
    ports: tuple[PortBinding, ...] = ()
    health: Health | None = None


ABSENT = Observation(ObservedState.ABSENT)
