"""What a person may ask of a deployment in each state, and what it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hypervisor.lifecycle.states import ENDED, WAITING, State


class Command(StrEnum):
    START = "start"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Accepted:
    """Do it: go to `target`; for STOPPING, `then` is the state after the stop was observed."""

    target: State
    then: State | None = None


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """It is as asked already; the answer is the same as if it had just been done."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Refused:
    code: str
    sentence: str


Verdict = Accepted | NothingToDo | Refused


def judge(command: Command, state: State, state_after_stop: State | None = None) -> Verdict:
    """Start re-queues what has ended; stop ends what is live; cancel ends what waits and what is live.

    A start of something live or waiting has nothing to do. While STOPPING only the state that follows can
    change: a stop or cancel overrides a coming re-queue. (The caller sends an accepted start to BLOCKED
    instead of QUEUED when dependencies are not met.)
    """
    if command is Command.START:
        return _judge_start(state, state_after_stop)
    final = State.STOPPED if command is Command.STOP else State.CANCELLED
    if state is State.STOPPING:
        if state_after_stop is State.QUEUED:
            return Accepted(State.STOPPING, then=final)
        return NothingToDo("it is stopping already")
    if state in (State.STARTING, State.RUNNING):
        return Accepted(State.STOPPING, then=final)
    if state in ENDED:
        return NothingToDo(f"it has ended already ({state.value})")
    if command is Command.CANCEL:
        return Accepted(State.CANCELLED)
    return Refused("not_running", f"it is {state.value}, not running; cancel takes it out of the queue")


def _judge_start(state: State, state_after_stop: State | None) -> Verdict:
    if state in ENDED:
        return Accepted(State.QUEUED)
    if state is State.STOPPING and state_after_stop is not State.QUEUED:
        return Refused("still_stopping", "it is still stopping; start it again once it has ended")
    waits = "waits" if state in WAITING or state is State.STOPPING else "runs"
    return NothingToDo(f"it {waits} already ({state.value})")
