"""The commands of users (start, stop, cancel), and their result in each state."""

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
    """The deployment goes to `target`. For STOPPING, `state_after_stop` follows after the observed stop."""

    target: State
    state_after_stop: State | None = None


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """The deployment is already in the requested state. The response is the same as after a change."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Refused:
    code: str
    sentence: str


CommandResult = Accepted | NothingToDo | Refused


def evaluate(command: Command, state: State, state_after_stop: State | None = None) -> CommandResult:
    """The result of a command.

    Start requeues an ended deployment, stop ends a live one, cancel ends a waiting or live one. A start of a
    live or waiting deployment does nothing. While STOPPING only the following state can change: stop or
    cancel overrides a requeue. The caller sends an accepted start to BLOCKED instead of QUEUED when
    dependencies are not met.
    """
    if command is Command.START:
        return _evaluate_start(state, state_after_stop)
    final = State.STOPPED if command is Command.STOP else State.CANCELLED
    if state is State.STOPPING:
        if state_after_stop is State.QUEUED:
            return Accepted(State.STOPPING, state_after_stop=final)
        return NothingToDo("it is already stopping")
    if state in (State.STARTING, State.RUNNING):
        return Accepted(State.STOPPING, state_after_stop=final)
    if state in ENDED:
        return NothingToDo(f"it has already ended ({state.value})")
    if command is Command.CANCEL:
        return Accepted(State.CANCELLED)
    return Refused("not_running", f"it is {state.value}, not running; cancel it to remove it from the queue")


def _evaluate_start(state: State, state_after_stop: State | None) -> CommandResult:
    if state in ENDED:
        return Accepted(State.QUEUED)
    if state is State.STOPPING and state_after_stop is not State.QUEUED:
        return Refused("still_stopping", "it is still stopping; start it after it has ended")
    verb = "waits" if state in WAITING or state is State.STOPPING else "runs"
    return NothingToDo(f"it already {verb} ({state.value})")
