"""The legal edges between states, and the results of commands."""

import pytest

from hypervisor.lifecycle.commands import Accepted, Command, NothingToDo, Refused, evaluate
from hypervisor.lifecycle.states import ENDED, LEGAL_EDGES, LIVE, WAITING, State, is_legal


def test_the_groups_cover_every_state_once() -> None:
    assert sorted([*WAITING, *LIVE, *ENDED]) == sorted(State)


def test_nothing_runs_without_a_placement() -> None:
    assert {source for source, target in LEGAL_EDGES if target is State.RUNNING} == {State.STARTING}
    assert {source for source, target in LEGAL_EDGES if target is State.STARTING} == {State.QUEUED}


def test_capacity_is_freed_only_by_an_observed_end() -> None:
    """STOPPING leads only to an end or to the queue."""
    assert not is_legal(State.RUNNING, State.STOPPED)
    assert not is_legal(State.RUNNING, State.CANCELLED)
    assert {target for source, target in LEGAL_EDGES if source is State.STOPPING} == ENDED | {State.QUEUED}


def test_every_state_can_be_reached_and_left() -> None:
    assert {target for _, target in LEGAL_EDGES} == set(State)
    assert {source for source, _ in LEGAL_EDGES} == set(State)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_start_requeues_an_ended_deployment(state: State) -> None:
    assert evaluate(Command.START, state) == Accepted(State.QUEUED)


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
@pytest.mark.parametrize(
    ("command", "final"), [(Command.STOP, State.STOPPED), (Command.CANCEL, State.CANCELLED)]
)
def test_stop_and_cancel_end_a_live_deployment_through_stopping(
    state: State, command: Command, final: State
) -> None:
    assert evaluate(command, state) == Accepted(State.STOPPING, state_after_stop=final)


@pytest.mark.parametrize("state", sorted(WAITING))
def test_only_cancel_ends_a_waiting_deployment(state: State) -> None:
    assert evaluate(Command.CANCEL, state) == Accepted(State.CANCELLED)
    verdict = evaluate(Command.STOP, state)
    assert isinstance(verdict, Refused)
    assert "cancel" in verdict.sentence


def test_a_stop_during_a_preemption_prevents_the_requeue() -> None:
    verdict = evaluate(Command.STOP, State.STOPPING, State.QUEUED)
    assert verdict == Accepted(State.STOPPING, state_after_stop=State.STOPPED)


def test_a_second_stop_has_nothing_to_do() -> None:
    assert isinstance(evaluate(Command.STOP, State.STOPPING, State.STOPPED), NothingToDo)
    assert isinstance(evaluate(Command.CANCEL, State.CANCELLED), NothingToDo)


def test_start_is_refused_while_a_requested_stop_is_running() -> None:
    assert isinstance(evaluate(Command.START, State.STOPPING, State.STOPPED), Refused)
    assert isinstance(evaluate(Command.START, State.STOPPING, State.QUEUED), NothingToDo)
    assert isinstance(evaluate(Command.START, State.RUNNING), NothingToDo)


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("following", [State.QUEUED, State.STOPPED, State.CANCELLED, State.FAILED])
def test_every_accepted_command_is_a_legal_edge(command: Command, state: State, following: State) -> None:
    verdict = evaluate(command, state, following if state is State.STOPPING else None)
    if isinstance(verdict, Accepted):
        assert is_legal(state, verdict.target) or (state is verdict.target is State.STOPPING)
        assert (verdict.target is State.STOPPING) == (verdict.state_after_stop is not None)
