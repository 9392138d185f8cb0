"""The next action for one attempt, from its desired and its observed state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypervisor.kernel.observation import Health, Observation, ObservedState

START_TOLERANCE = timedelta(milliseconds=1)
"""Start times of one run differ by less: databases and engines round them differently."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of an attempt.

    `started_at` is None until the instance was observed running. If `stop_requested_at` is set, the attempt
    must end, with `grace_seconds` between the stop signal and SIGKILL.

    The last three are what is recorded about the instance: when it was started again from outside of the
    product, its health, and its end. `end` is recorded before the instance is removed; with the removal it
    becomes the end of the attempt.
    """

    started_at: datetime | None = None
    stop_requested_at: datetime | None = None
    grace_seconds: int = 0
    max_runtime_seconds: int | None = None
    restarted_at: datetime | None = None
    health: Health | None = None
    end: Observation | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """Create and start the instance (or adopt it)."""


@dataclass(frozen=True, slots=True)
class MarkRunning:
    """Record that the instance runs, that it was started again, or that its health changed."""


@dataclass(frozen=True, slots=True)
class RequestStop:
    """Stop the instance through the engine."""

    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Request the stop of an attempt that has run for its `max_runtime_seconds`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end of the attempt and free its capacity: it has ended, or will never start.

    An ended instance that can be started again is removed first.
    """


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
        return _keep_running(desired, observed, now)
    return Finish() if desired.started_at is not None or desired.end is not None else Launch()


def was_restarted(
    started_at: datetime | None, restarted_at: datetime | None, observed_start: datetime | None
) -> bool:
    """Whether an instance with these recorded starts runs since another start."""
    recorded = restarted_at or started_at
    if recorded is None or observed_start is None:
        return False
    return abs(observed_start - recorded) > START_TOLERANCE


def _keep_running(desired: Desired, observed: Observation, now: datetime) -> Action:
    if desired.started_at is None:
        return MarkRunning()
    deadline = _deadline(desired.started_at, desired.max_runtime_seconds)
    if deadline is not None and now >= deadline:
        return Expire()
    return MarkRunning() if _is_outdated(desired, observed) else Wait(until=deadline)


def _deadline(started_at: datetime, max_runtime_seconds: int | None) -> datetime | None:
    return None if max_runtime_seconds is None else started_at + timedelta(seconds=max_runtime_seconds)


def _is_outdated(desired: Desired, observed: Observation) -> bool:
    """Whether the record of a running instance differs from the observation."""
    restarted = was_restarted(desired.started_at, desired.restarted_at, observed.started_at)
    return restarted or desired.end is not None or desired.health is not observed.health
