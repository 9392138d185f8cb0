"""What the engine tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hypervisor.scheduling.snapshot import Int64
from hypervisor.simulation.jobs import Job


@dataclass(slots=True)
class Ticket:
    """A job on its way through the system. `started_first` is None until it has run for the first time."""

    job: Job
    started_first: float | None = None
    evictions: int = 0


@dataclass(slots=True)
class Attempt:
    """One run of a job: on which row of the nodes, on which devices, since when.

    `stopped_at` is when it was evicted; it does no work after that, but holds its capacity for the grace.
    """

    id: int
    ticket: Ticket
    node: int
    devices: tuple[int, ...]
    started_at: float
    stopped_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a job can never run here; `code` is for counting, `sentence` for people."""

    code: str
    sentence: str


@dataclass(slots=True)
class Load:
    """How full the cluster is and what waits; amounts of all nodes together."""

    running: int = 0
    cpu_milli: int = 0
    ram_mib: int = 0
    gpu_milli: int = 0
    waiting: int = 0
    waiting_gpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on each node: milli-CPU, MiB, and milli-GPU by device. To look at, not to write to."""

    cpu_milli: Int64
    ram_mib: Int64
    gpu_milli: Int64


class Observer(Protocol):
    """Called in the order of events. Times are seconds since the first arrival."""

    def passed(self, start: float, end: float, load: Load, room: Room) -> None:
        """Nothing changed from `start` to `end`."""

    def arrived(self, job: Job, now: float) -> None: ...

    def rejected(self, job: Job, why: Rejection, now: float) -> None: ...

    def started(self, attempt: Attempt, now: float) -> None: ...

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        """It stops working now, and is waiting again when its capacity was released."""

    def released(self, attempt: Attempt, now: float) -> None:
        """Its capacity is free: it was evicted, or its work is done."""

    def ended(self, attempt: Attempt, now: float) -> None:
        """Its work is done; called after `released`."""
