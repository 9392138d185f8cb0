"""What an engine says about one instance; shared by the runtimes and the rules that judge it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ObservedState(StrEnum):
    ABSENT = "absent"
    """The engine knows no such instance (said by the engine, never assumed)."""
    CREATED = "created"
    """It exists and has not been started yet."""
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A declared port and where it can be reached from this machine."""

    port: int
    host: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What the engine says about one instance. Times are UTC, None where unknown.

    `exit_code` is None while running, and also for an instance that is gone without anybody having seen
    its exit; `message` then says so. Death by signal N is reported as 128 + N.
    """

    state: ObservedState
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    message: str | None = None
    ports: tuple[PortBinding, ...] = ()


ABSENT = Observation(ObservedState.ABSENT)
