"""The next action for one attempt, from its desired and its observed state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypervisor.kernel.observation import Observation, ObservedState


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of an attempt.

    `started_at` is None until the instance was observed running. If `stop_requested_at` is set, the attempt
    must end, with `grace_seconds` between SIGTERM and SIGKILL.
    """

    started_at: datetime | None = None
    stop_requested_at: datetime | None = None
    grace_seconds: int = 0
    max_runtime_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """Create and start the instance (or adopt it)."""


@dataclass(frozen=True, slots=True)
class MarkRunning:
    """Record that the instance runs."""


@dataclass(frozen=True, slots=True)
class RequestStop:
    """Stop the instance through the engine."""

    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Request the stop of an attempt that has run for its `max_runtime_seconds`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end of the attempt and free its capacity: it has ended, or will never start."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now. If `until` is set, decide again at that time at the latest."""

    until: datetime | None = None


Action = Launch | MarkRunning | RequestStop | Expire | Finish | Wait


def decide(desired: Desired, observed: Observation | None, now: datetime) -> Action:
    """The next action for one attempt. `observed` is None if the engine is unreachable: do nothing.

    An absent instance is launched only if it was never observed running. Otherwise the instance was lost, and
    its end is recorded.
    """
    if observed is None:
        return Wait()
    if observed.state is ObservedState.EXITED:
        return Finish()
    if desired.stop_requested_at is not None:
        is_absent = observed.state is ObservedState.ABSENT
        return Finish() if is_absent else RequestStop(desired.grace_seconds)
    if observed.state is ObservedState.RUNNING:
        return _keep_running(desired, now)
    return Finish() if desired.started_at is not None else Launch()


def _keep_running(desired: Desired, now: datetime) -> Action:
    if desired.started_at is None:
        return MarkRunning()
    if desired.max_runtime_seconds is None:
        return Wait()
    deadline = desired.started_at + timedelta(seconds=desired.max_runtime_seconds)
    return Expire() if now >= deadline else Wait(until=deadline)
