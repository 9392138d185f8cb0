"""What happens at the failpoints of `hypervisor.kernel.failpoints`: for crash tests only.

`HYPERVISOR_FAILPOINTS` lists them, `HYPERVISOR_TESTING=1` has to be set beside it:

    plan_before_commit=kill         the process dies as by kill -9
    status_before_write=pause:30    the whole process stands still for 30 seconds, once
    stop_before_call=raise          an error that nobody expects
    stop_after_call=drop            what was done is not learnt: a time-out
    plan_after_commit=kill@3        from the third time on

Several are separated by commas.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

from hypervisor.errors import StartupError
from hypervisor.kernel import failpoints

VARIABLE = "HYPERVISOR_FAILPOINTS"
PERMISSION = "HYPERVISOR_TESTING"

Action = Callable[[], None]


class Failed(RuntimeError):
    """Raised at a failpoint."""


def arm(environment: Mapping[str, str]) -> None:
    """Do what the environment asks for. Raises StartupError for what is not understood or not allowed."""
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return
    if environment.get(PERMISSION) != "1":
        raise StartupError(f"{VARIABLE} makes the server fail on purpose: unset it, or set {PERMISSION}=1")
    failpoints.install(_Armed(dict(_parse(one) for one in text.split(","))))


class _Armed:
    """The hook: each point with its action and how often it is to be passed unharmed."""

    def __init__(self, actions: Mapping[str, tuple[Action, int]]) -> None:
        self._actions = actions
        self._left = {point: times for point, (_, times) in actions.items()}

    def __call__(self, point: str) -> None:
        if point not in self._left:
            return
        self._left[point] -= 1
        if self._left[point] <= 0:
            self._actions[point][0]()


class _Pause:
    """Stands still the first time only: a process that does so for ever is as good as dead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self) -> None:
        seconds, self._seconds = self._seconds, 0.0
        time.sleep(seconds)


def _parse(text: str) -> tuple[str, tuple[Action, int]]:
    point, _, rest = text.strip().partition("=")
    what, _, times = rest.partition("@")
    if point not in failpoints.POINTS:
        raise StartupError(f"{VARIABLE}: there is no failpoint {point!r}")
    if times and not times.isdecimal():
        raise StartupError(f"{VARIABLE}: {times!r} is not a number of times")
    return point, (_action(what), int(times or 1))


def _action(text: str) -> Action:
    word, _, seconds = text.partition(":")
    if word == "pause" and seconds.replace(".", "", 1).isdecimal():
        return _Pause(float(seconds))
    try:
        return {"kill": _kill, "raise": _raise, "drop": _drop}[text]
    except KeyError:
        raise StartupError(f"{VARIABLE}: {text!r} is none of kill, raise, drop and pause:SECONDS") from None


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise Failed("a failpoint was reached")


def _drop() -> None:
    raise TimeoutError("a failpoint dropped the answer")
