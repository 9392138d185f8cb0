"""Conclusions of ended attempts."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.observation import ABSENT, Observation, ObservedState
from hypervisor.lifecycle.conclude import (
    MAX_BACKOFF_SECONDS,
    MIN_BACKOFF_SECONDS,
    Ending,
    StopReason,
    backoff,
    conclude,
)
from hypervisor.lifecycle.states import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def exited(code: int | None, *, at: datetime = NOW, oom: bool = False) -> Observation:
    return Observation(ObservedState.EXITED, exit_code=code, finished_at=at, oom_killed=oom)


@pytest.mark.parametrize(
    ("code", "state", "outcome"), [(0, State.SUCCEEDED, "succeeded"), (3, State.FAILED, "failed")]
)
def test_an_exit_code_decides(code: int, state: State, outcome: str) -> None:
    conclusion = conclude(Ending(exited(code)), 0.5)
    assert (conclusion.state, conclusion.outcome) == (state, outcome)


def test_the_sentence_of_a_failure_names_its_cause() -> None:
    assert "code 3" in conclude(Ending(exited(3)), 0).sentence
    assert "SIGSEGV" in conclude(Ending(exited(139)), 0).sentence
    assert "512 MiB" in conclude(Ending(exited(137, oom=True), ram_limit_mib=512), 0).sentence
    assert "no such image" in conclude(Ending(None, launch_error="no such image"), 0).sentence
    assert conclude(Ending(ABSENT), 0).outcome == "lost"


@pytest.mark.parametrize(
    ("code", "reason_code"),
    [(1, "exit_code"), (128, "exit_code"), (137, "killed_by_signal"), (193, "exit_code"), (255, "exit_code")],
)
def test_only_a_code_that_a_signal_can_cause_is_called_one(code: int, reason_code: str) -> None:
    conclusion = conclude(Ending(exited(code)), 0)
    assert conclusion.code == reason_code
    assert ("SIG" in conclusion.sentence) == (reason_code == "killed_by_signal")
    assert f"exit code {code}" in conclusion.sentence


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (StopReason.PREEMPTED, State.QUEUED),
        (StopReason.DRAINED, State.QUEUED),
        (StopReason.STOPPED, State.STOPPED),
        (StopReason.CANCELLED, State.CANCELLED),
        (StopReason.DELETED, State.STOPPED),
        (StopReason.MAX_RUNTIME, State.FAILED),
    ],
)
@pytest.mark.parametrize("code", [0, 1, 137, 143, None])
def test_an_exit_within_the_grace_period_counts_as_the_stop(
    reason: StopReason, state: State, code: int | None
) -> None:
    ending = Ending(exited(code), stop_reason=reason, stop_requested_at=NOW - timedelta(seconds=1))
    assert conclude(ending, 0.5).state is state


def test_an_exit_before_the_stop_counts_by_its_exit_code() -> None:
    later = NOW + timedelta(seconds=1)
    ending = Ending(exited(0), stop_reason=StopReason.PREEMPTED, stop_requested_at=later)
    assert conclude(ending, 0.5).state is State.SUCCEEDED


def test_after_the_last_retry_the_deployment_fails_with_the_last_reason() -> None:
    retrying = conclude(Ending(exited(1), restart_policy="on-failure", max_retries=2, retries_used=1), 0.5)
    assert (retrying.state, retrying.retries_used) == (State.QUEUED, 2)
    assert retrying.delay >= MIN_BACKOFF_SECONDS
    last = conclude(Ending(exited(1), restart_policy="on-failure", max_retries=2, retries_used=2), 0.5)
    assert last.state is State.FAILED
    assert "code 1" in last.sentence
    assert "2 retries" in last.sentence


@pytest.mark.parametrize(
    ("observation", "state"),
    [
        (exited(1), State.QUEUED),
        (exited(137, oom=True), State.QUEUED),
        (exited(3), State.FAILED),
        (exited(139), State.FAILED),
        (ABSENT, State.QUEUED),
    ],
)
def test_only_the_retry_exit_codes_are_retried(observation: Observation, state: State) -> None:
    ending = Ending(observation, restart_policy="on-failure", max_retries=2, retry_exit_codes=[137, 1])
    conclusion = conclude(ending, 0.5)
    assert (conclusion.state, conclusion.retries_used) == (state, 1 if state is State.QUEUED else 0)
    assert ("retry_exit_codes allows only 1, 137" in conclusion.sentence) == (state is State.FAILED)


def test_retry_exit_codes_do_not_affect_launch_errors_and_successes() -> None:
    ending = partial(Ending, restart_policy="always", max_retries=2, retry_exit_codes=[137])
    temporary = ending(None, launch_error="engine busy", launch_retryable=True)
    assert conclude(temporary, 0).state is State.QUEUED
    assert conclude(ending(exited(0)), 0).code == "restarting"


def test_a_long_run_resets_the_used_retries() -> None:
    ending = Ending(
        exited(1),
        started_at=NOW - timedelta(hours=1),
        restart_policy="on-failure",
        max_retries=3,
        retries_used=3,
    )
    assert conclude(ending, 0).retries_used == 1


def test_a_permanent_launch_error_is_not_retried() -> None:
    refused = Ending(None, launch_error="bad image", restart_policy="always", max_retries=5)
    assert conclude(refused, 0).state is State.FAILED
    temporary = Ending(
        None, launch_error="engine busy", launch_retryable=True, restart_policy="always", max_retries=5
    )
    assert conclude(temporary, 0).state is State.QUEUED


def test_only_always_restarts_a_success() -> None:
    assert conclude(Ending(exited(0), restart_policy="always", max_retries=1), 0).state is State.QUEUED
    assert conclude(Ending(exited(0), restart_policy="on-failure", max_retries=1), 0).state is State.SUCCEEDED


@given(retry=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_back_off_stays_between_ten_seconds_and_five_minutes(retry: int, jitter: float) -> None:
    assert MIN_BACKOFF_SECONDS <= backoff(retry, jitter) <= MAX_BACKOFF_SECONDS
