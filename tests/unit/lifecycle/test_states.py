"""The state machine as a table."""

import pytest

from hypervisor.lifecycle.commands import Accepted, Command, NothingToDo, Refused, judge
from hypervisor.lifecycle.states import ENDED, LEGAL_EDGES, LIVE, WAITING, State, is_legal


def test_the_groups_cover_every_state_once() -> None:
    assert sorted([*WAITING, *LIVE, *ENDED]) == sorted(State)


def test_nothing_runs_without_having_been_placed() -> None:
    assert {source for source, target in LEGAL_EDGES if target is State.RUNNING} == {State.STARTING}
    assert {source for source, target in LEGAL_EDGES if target is State.STARTING} == {State.QUEUED}


def test_capacity_is_given_back_through_an_observed_end_only() -> None:
    """STOPPING is left only for an end or the queue; a live state never goes back to BLOCKED."""
    assert not is_legal(State.RUNNING, State.STOPPED)
    assert not is_legal(State.RUNNING, State.CANCELLED)
    assert {target for source, target in LEGAL_EDGES if source is State.STOPPING} == ENDED | {State.QUEUED}


def test_every_state_can_be_reached_and_left() -> None:
    assert {target for _, target in LEGAL_EDGES} == set(State)
    assert {source for source, _ in LEGAL_EDGES} == set(State)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_start_queues_what_has_ended(state: State) -> None:
    assert judge(Command.START, state) == Accepted(State.QUEUED)


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
@pytest.mark.parametrize(
    ("command", "final"), [(Command.STOP, State.STOPPED), (Command.CANCEL, State.CANCELLED)]
)
def test_stop_and_cancel_end_what_is_live_by_way_of_stopping(
    state: State, command: Command, final: State
) -> None:
    assert judge(command, state) == Accepted(State.STOPPING, then=final)


@pytest.mark.parametrize("state", sorted(WAITING))
def test_only_cancel_ends_what_waits(state: State) -> None:
    assert judge(Command.CANCEL, state) == Accepted(State.CANCELLED)
    verdict = judge(Command.STOP, state)
    assert isinstance(verdict, Refused)
    assert "cancel" in verdict.sentence


def test_a_stop_during_a_preemption_keeps_it_from_coming_back() -> None:
    verdict = judge(Command.STOP, State.STOPPING, State.QUEUED)
    assert verdict == Accepted(State.STOPPING, then=State.STOPPED)


def test_a_second_stop_has_nothing_to_do() -> None:
    assert isinstance(judge(Command.STOP, State.STOPPING, State.STOPPED), NothingToDo)
    assert isinstance(judge(Command.CANCEL, State.CANCELLED), NothingToDo)


def test_start_of_something_that_is_about_to_stop_for_good_is_refused() -> None:
    assert isinstance(judge(Command.START, State.STOPPING, State.STOPPED), Refused)
    assert isinstance(judge(Command.START, State.STOPPING, State.QUEUED), NothingToDo)
    assert isinstance(judge(Command.START, State.RUNNING), NothingToDo)


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("then", [State.QUEUED, State.STOPPED, State.CANCELLED, State.FAILED])
def test_whatever_is_accepted_is_a_legal_edge(command: Command, state: State, then: State) -> None:
    verdict = judge(command, state, then if state is State.STOPPING else None)
    if isinstance(verdict, Accepted):
        assert is_legal(state, verdict.target) or (state is verdict.target is State.STOPPING)
        assert (verdict.target is State.STOPPING) == (verdict.then is not None)
