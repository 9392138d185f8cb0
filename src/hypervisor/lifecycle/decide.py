"""What to do with one attempt, given what is wanted of it and what the engine says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypervisor.kernel.observation import Observation, ObservedState


@dataclass(frozen=True, slots=True)
class Desired:
    """What is wanted of an attempt.

    `started_at` is None until it was seen running. `stop_requested_at` set means that it is to end, with
    `grace_seconds` between SIGTERM and SIGKILL.
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
    """It runs and that is not recorded yet."""


@dataclass(frozen=True, slots=True)
class RequestStop:
    """Pass the stop on to the engine."""

    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Expire:
    """It has run for its `max_runtime_seconds`: ask for its end."""


@dataclass(frozen=True, slots=True)
class Finish:
    """It has ended (or never will begin): record the end and free its capacity."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do now; look again at `until` at the latest, where there is such a time."""

    until: datetime | None = None


Action = Launch | MarkRunning | RequestStop | Expire | Finish | Leave


def decide(desired: Desired, observed: Observation | None, now: datetime) -> Action:
    """The next step for one attempt. `observed` None means that the engine could not be asked: do nothing.

    An absent instance is launched only if it was never seen running; one that was is gone, and its end is
    recorded instead.
    """
    if observed is None:
        return Leave()
    if observed.state is ObservedState.EXITED:
        return Finish()
    if desired.stop_requested_at is not None:
        gone = observed.state is ObservedState.ABSENT
        return Finish() if gone else RequestStop(desired.grace_seconds)
    if observed.state is ObservedState.RUNNING:
        return _keep_running(desired, now)
    return Finish() if desired.started_at is not None else Launch()


def _keep_running(desired: Desired, now: datetime) -> Action:
    if desired.started_at is None:
        return MarkRunning()
    if desired.max_runtime_seconds is None:
        return Leave()
    deadline = desired.started_at + timedelta(seconds=desired.max_runtime_seconds)
    return Expire() if now >= deadline else Leave(until=deadline)
