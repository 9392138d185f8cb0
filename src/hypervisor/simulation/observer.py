"""The observer protocol: the engine reports every event of a simulation through it."""

from __future__ import annotations

from typing import Protocol

from hypervisor.simulation.cluster_load import ClusterLoad, FreeCapacity
from hypervisor.simulation.jobs import Attempt, Job, Rejection, Split


class Observer(Protocol):
    """The methods are called in the order of events. Times are seconds since the first arrival."""

    def time_passed(self, start: float, end: float, load: ClusterLoad, free: FreeCapacity) -> None:
        """Nothing changed between `start` and `end`."""

    def arrived(self, job: Job, now: float) -> None:
        """A job arrived. A split job is passed with its replicas."""

    def split(self, job: Job, how: Split, now: float) -> None:
        """A job was split because no node could run it in one piece. Called after `arrived`."""

    def rejected(self, job: Job, why: Rejection, now: float) -> None:
        """A job can never run on these nodes. Called after `arrived`."""

    def started(self, attempt: Attempt, now: float) -> None:
        """All replicas of a job started."""

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        """A job stops working now. It is queued again when its capacity is released."""

    def released(self, attempt: Attempt, now: float) -> None:
        """The capacity is free, after an eviction or at the end of the job."""

    def ended(self, attempt: Attempt, now: float) -> None:
        """A job is done. Called after `released`."""
