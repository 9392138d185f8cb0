"""Actions at the failpoints of `hypervisor.kernel.failpoints`, for crash tests only.

`HYPERVISOR_FAILPOINTS` lists them, separated by commas. `HYPERVISOR_TESTING=1` must be set as well:

    plan_before_commit=kill         the process dies as by kill -9
    status_before_write=pause:30    the whole process sleeps for 30 seconds, once
    stop_before_call=raise          an unexpected error
    stop_after_call=drop            a time-out: the result of the call is lost
    plan_after_commit=kill@3        from the third time on
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


class FailpointReached(RuntimeError):
    """Raised at a failpoint."""


def arm(environment: Mapping[str, str]) -> None:
    """Install the failpoints that `environment` lists. Raises StartupError if one is invalid or forbidden."""
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return
    if environment.get(PERMISSION) != "1":
        raise StartupError(f"{VARIABLE} makes the server fail on purpose; unset it, or set {PERMISSION}=1")
    failpoints.install(_Armed(dict(_parse(item) for item in text.split(","))))


class _Armed:
    """The hook: for each point its action, and from which pass on it happens."""

    def __init__(self, actions: Mapping[str, tuple[Action, int]]) -> None:
        self._actions = actions
        self._remaining = {point: passes for point, (_, passes) in actions.items()}

    def __call__(self, point: str) -> None:
        if point not in self._remaining:
            return
        self._remaining[point] -= 1
        if self._remaining[point] <= 0:
            self._actions[point][0]()


class _Pause:
    """Sleeps the first time only: a process that sleeps at every pass would be as good as dead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self) -> None:
        seconds, self._seconds = self._seconds, 0.0
        time.sleep(seconds)


def _parse(text: str) -> tuple[str, tuple[Action, int]]:
    point, _, rest = text.strip().partition("=")
    action, _, passes = rest.partition("@")
    if point not in failpoints.POINTS:
        raise StartupError(f"{VARIABLE}: unknown failpoint {point!r}")
    if passes and not passes.isdecimal():
        raise StartupError(f"{VARIABLE}: the number after @ is not a whole number: {passes!r}")
    return point, (_action(action), int(passes or 1))


def _action(text: str) -> Action:
    word, _, seconds = text.partition(":")
    if word == "pause" and seconds.replace(".", "", 1).isdecimal():
        return _Pause(float(seconds))
    try:
        return {"kill": _kill, "raise": _raise, "drop": _drop}[text]
    except KeyError:
        raise StartupError(
            f"{VARIABLE}: unknown action {text!r}; use kill, raise, drop or pause:SECONDS"
        ) from None


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise FailpointReached("a failpoint was reached")


def _drop() -> None:
    raise TimeoutError("a failpoint dropped the answer")
