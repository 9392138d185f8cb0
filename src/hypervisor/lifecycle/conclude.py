"""How the end of an attempt is judged: what it was, and which state the deployment goes to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hypervisor.kernel.observation import Observation
from hypervisor.lifecycle.states import State

BACKOFF_FIRST = 10.0
BACKOFF_LONGEST = 300.0
HEALTHY_AFTER = timedelta(minutes=10)
"""A run this long was healthy: earlier retries are forgotten."""


class StopReason(StrEnum):
    """Why an attempt was asked to stop."""

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
    """The facts about an attempt that has ended, and the deployment's rules for it.

    `launch_error` is set when the engine refused to start it; `observation` is then None. Where
    `retry_exit_codes` holds any, no other exit code is retried; what has no exit code (the engine refused
    it for now, the instance was lost) is not the program's doing and is retried as without them.
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
    """`outcome` is the attempt's, `state` the deployment's next. `delay` seconds hold a retry back."""

    outcome: str
    state: State
    code: str
    sentence: str
    delay: float = 0.0
    retries_used: int = 0


_STOPPED: Mapping[StopReason, tuple[State, str]] = {
    StopReason.PREEMPTED: (
        State.QUEUED,
        "gave way to a deployment of higher priority; keeps its place in the queue",
    ),
    StopReason.DRAINED: (State.QUEUED, "its node was drained; keeps its place in the queue"),
    StopReason.STOPPED: (State.STOPPED, "stopped on request"),
    StopReason.CANCELLED: (State.CANCELLED, "cancelled on request"),
    StopReason.DELETED: (State.STOPPED, "stopped to be deleted"),
    StopReason.GANG_FAILED: (State.FAILED, "stopped because another replica failed"),
    StopReason.GANG_TIMEOUT: (
        State.QUEUED,
        "not all replicas were up in time; all of them go back to the queue",
    ),
    StopReason.MAX_RUNTIME: (State.FAILED, "ran longer than its max_runtime_seconds"),
}


def state_after_stop(reason: StopReason) -> State:
    """Where a deployment goes once a stop for this reason was observed."""
    return _STOPPED[reason][0]


def sentence_after_stop(reason: StopReason) -> str:
    """What is said of a deployment once a stop for this reason was observed."""
    return _STOPPED[reason][1]


def conclude(ending: Ending, jitter: float) -> Conclusion:
    """Judge the end of an attempt. `jitter` is a number in [0, 1) for the back-off of a retry.

    An exit after the stop was asked for counts as that stop, whatever the exit code (an exit inside grace
    is not a failure); one that came before it counts as its own.
    """
    if ending.stop_reason is not None and not _ended_before_the_stop(ending):
        state, sentence = _STOPPED[ending.stop_reason]
        outcome = ending.stop_reason.value
        return Conclusion(outcome, state, outcome, sentence, retries_used=ending.retries_used)
    if ending.observation is not None and ending.observation.exit_code == 0:
        return _succeeded(ending, jitter)
    return _failed(ending, jitter)


def backoff(retry: int, jitter: float) -> float:
    """Full-jitter exponential back-off: seconds before retry number `retry` (from 0), 10 s to 5 min."""
    ceiling = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(retry, 10))
    return BACKOFF_FIRST + jitter * (ceiling - BACKOFF_FIRST)


def _ended_before_the_stop(ending: Ending) -> bool:
    finished = ending.observation.finished_at if ending.observation else None
    return (
        finished is not None and ending.stop_requested_at is not None and finished < ending.stop_requested_at
    )


def _succeeded(ending: Ending, jitter: float) -> Conclusion:
    if ending.restart_policy == "always" and (retry := _retry(ending, jitter)) is not None:
        delay, used = retry
        return Conclusion(
            "succeeded", State.QUEUED, "restarting", "exited with code 0; restarts by its policy", delay, used
        )
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
        sentence = f"{sentence}; not retried: only exit codes {codes} are"
        may_retry = False
    if may_retry and (retry := _retry(ending, jitter)) is not None:
        delay, used = retry
        again = f"{sentence}; retry {used} of {ending.max_retries} in {delay:.0f} s"
        return Conclusion(outcome, State.QUEUED, code, again, delay, used)
    if may_retry and ending.max_retries:
        sentence = f"{sentence}; all {ending.max_retries} retries are used"
    return Conclusion(outcome, State.FAILED, code, sentence, retries_used=ending.retries_used)


def _describe_failure(ending: Ending) -> tuple[str, str, str]:
    if ending.launch_error is not None:
        return "launch_failed", "launch_failed", f"could not be started: {ending.launch_error}"
    seen = ending.observation
    if seen is None or seen.exit_code is None:
        message = (seen.message if seen else None) or "nobody saw its exit"
        return "lost", "lost", f"the instance is gone: {message}"
    if seen.oom_killed:
        limit = f" (limit {ending.ram_limit_mib} MiB)" if ending.ram_limit_mib else ""
        return "oom_killed", "oom_killed", f"killed: out of memory{limit}; ask for more required_ram_gb"
    if seen.exit_code > 128:
        return (
            "failed",
            "killed_by_signal",
            f"ended by signal {seen.exit_code - 128} (exit code {seen.exit_code})",
        )
    return "failed", "exit_code", f"exited with code {seen.exit_code}"


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
