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
    `message` then explains it. An end by signal N is 128 + N.
    """

    state: ObservedState
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str | None = None
    ports: tuple[PortBinding, ...] = ()


ABSENT = Observation(ObservedState.ABSENT)
