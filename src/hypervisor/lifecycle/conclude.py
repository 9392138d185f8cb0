"""The conclusion of an ended attempt: its outcome, and the next state of the deployment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hypervisor.kernel.exit_code import describe_exit_code, possible_signal
from hypervisor.kernel.observation import Observation
from hypervisor.lifecycle.states import State

MIN_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 300.0
HEALTHY_AFTER = timedelta(minutes=10)
"""An attempt that ran this long resets the count of used retries."""


class StopReason(StrEnum):
    """Why the stop of an attempt was requested."""

    PREEMPTED = "preempted"
    DRAINED = "drained"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    MAX_RUNTIME = "max_runtime"
    DELETED = "deleted"
    GANG_FAILED = "gang_failed"
    GANG_TIMEOUT = "gang_timeout"


@dataclass(frozen=True, slots=True)
class Ending:
    """The facts about an ended attempt, and the retry rules of its deployment.

    `launch_error` is set when the engine refused to start the instance; `observation` is then None. If
    `retry_exit_codes` is not empty, no other exit code is retried. An end without an exit code (refused by
    the engine for now, instance lost) is not caused by the program and is retried in any case.
    """

    observation: Observation | None
    launch_error: str | None = None
    launch_retryable: bool = False
    started_at: datetime | None = None
    stop_reason: StopReason | None = None
    stop_requested_at: datetime | None = None
    restart_policy: str = "never"
    max_retries: int = 0
    retries_used: int = 0
    retry_exit_codes: Collection[int] = ()
    ram_limit_mib: int = 0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """`outcome` of the attempt and next `state` of the deployment. A retry starts after `delay` seconds."""

    outcome: str
    state: State
    code: str
    sentence: str
    delay: float = 0.0
    retries_used: int = 0


_STOPPED: Mapping[StopReason, tuple[State, str]] = {
    StopReason.PREEMPTED: (
        State.QUEUED,
        "preempted by a deployment of higher priority; it keeps its queue position",
    ),
    StopReason.DRAINED: (State.QUEUED, "its node was drained; it keeps its queue position"),
    StopReason.STOPPED: (State.STOPPED, "stopped on request"),
    StopReason.CANCELLED: (State.CANCELLED, "cancelled on request"),
    StopReason.DELETED: (State.STOPPED, "stopped for deletion"),
    StopReason.GANG_FAILED: (State.FAILED, "stopped because another replica failed"),
    StopReason.GANG_TIMEOUT: (
        State.QUEUED,
        "not all replicas were running before gang_timeout_seconds; all of them were requeued",
    ),
    StopReason.MAX_RUNTIME: (State.FAILED, "ran longer than its max_runtime_seconds"),
}


def state_after_stop(reason: StopReason) -> State:
    """The state of a deployment after a stop for this reason was observed."""
    return _STOPPED[reason][0]


def sentence_after_stop(reason: StopReason) -> str:
    """The sentence for a deployment after a stop for this reason was observed."""
    return _STOPPED[reason][1]


def conclude(ending: Ending, jitter: float) -> Conclusion:
    """The conclusion of an ended attempt. `jitter` is a number in [0, 1) for the back-off of a retry.

    An exit after the stop request counts as the requested stop, with any exit code: an exit within the grace
    period is not a failure. An exit before the request counts by its exit code.
    """
    if ending.stop_reason is not None and not _ended_before_the_stop(ending):
        state, sentence = _STOPPED[ending.stop_reason]
        outcome = ending.stop_reason.value
        return Conclusion(outcome, state, outcome, sentence, retries_used=ending.retries_used)
    if ending.observation is not None and ending.observation.exit_code == 0:
        return _succeeded(ending, jitter)
    return _failed(ending, jitter)


def backoff(retry: int, jitter: float) -> float:
    """Seconds before retry number `retry` (from 0): full-jitter exponential back-off, 10 s to 5 min."""
    ceiling = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(retry, 10))
    return MIN_BACKOFF_SECONDS + jitter * (ceiling - MIN_BACKOFF_SECONDS)


def _ended_before_the_stop(ending: Ending) -> bool:
    finished = ending.observation.finished_at if ending.observation else None
    return (
        finished is not None and ending.stop_requested_at is not None and finished < ending.stop_requested_at
    )


def _succeeded(ending: Ending, jitter: float) -> Conclusion:
    if ending.restart_policy == "always" and (retry := _retry(ending, jitter)) is not None:
        delay, used = retry
        sentence = "finished with exit code 0; restart policy always"
        return Conclusion("succeeded", State.QUEUED, "restarting", sentence, delay, used)
    return Conclusion(
        "succeeded", State.SUCCEEDED, "exit_0", "finished with exit code 0", retries_used=ending.retries_used
    )


def _failed(ending: Ending, jitter: float) -> Conclusion:
    outcome, code, sentence = _describe_failure(ending)
    may_retry = ending.restart_policy in ("on-failure", "always") and (
        ending.launch_error is None or ending.launch_retryable
    )
    if may_retry and not _code_is_retried(ending):
        codes = ", ".join(map(str, sorted(ending.retry_exit_codes)))
        sentence = f"{sentence}; not retried, because retry_exit_codes allows only {codes}"
        may_retry = False
    if may_retry and (retry := _retry(ending, jitter)) is not None:
        delay, used = retry
        sentence = f"{sentence}; retry {used} of {ending.max_retries} in {delay:.0f} s"
        return Conclusion(outcome, State.QUEUED, code, sentence, delay, used)
    if may_retry and ending.max_retries:
        sentence = f"{sentence}; all {ending.max_retries} retries are used"
    return Conclusion(outcome, State.FAILED, code, sentence, retries_used=ending.retries_used)


def _describe_failure(ending: Ending) -> tuple[str, str, str]:
    if ending.launch_error is not None:
        return "launch_failed", "launch_failed", f"could not be started: {ending.launch_error}"
    observation = ending.observation
    if observation is None or observation.exit_code is None:
        message = (observation.message if observation else None) or "its exit was not observed"
        return "lost", "lost", f"the instance was lost: {message}"
    if observation.oom_killed:
        limit = f" (limit {ending.ram_limit_mib} MiB)" if ending.ram_limit_mib else ""
        return "oom_killed", "oom_killed", f"killed: out of memory{limit}; increase required_ram_gb"
    exit_code = observation.exit_code
    code = "exit_code" if possible_signal(exit_code) is None else "killed_by_signal"
    return "failed", code, f"ended with {describe_exit_code(exit_code)}"


def _code_is_retried(ending: Ending) -> bool:
    code = ending.observation.exit_code if ending.observation else None
    return code is None or not ending.retry_exit_codes or code in ending.retry_exit_codes


def _retry(ending: Ending, jitter: float) -> tuple[float, int] | None:
    used = 0 if _was_healthy(ending) else ending.retries_used
    if used >= ending.max_retries:
        return None
    return backoff(used, jitter), used + 1


def _was_healthy(ending: Ending) -> bool:
    finished = ending.observation.finished_at if ending.observation else None
    return (
        finished is not None
        and ending.started_at is not None
        and finished - ending.started_at >= HEALTHY_AFTER
    )
