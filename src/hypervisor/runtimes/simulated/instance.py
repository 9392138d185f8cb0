"""The life of one simulated instance, read from its labels; no I/O.

simulate/duration     seconds until it ends by itself (default: it runs until stopped)
simulate/exit-code    exit code, 0 to 255 (default 0)
simulate/start-delay  seconds in CREATED before it runs (default 0)
simulate/fail-start   start() raises LaunchFailed with this text
simulate/ignore-term  "true": a stop takes effect only at the end of the grace period
simulate/log          the lines that it writes at its start
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hypervisor.runtimes.log_tail import tail_position
from hypervisor.runtimes.protocol import LaunchFailed, LogChunk, Observation, ObservedState

PREFIX = "simulate/"
LABELS = frozenset({"duration", "exit-code", "start-delay", "fail-start", "ignore-term", "log"})
TERMINATED = 143
"""The exit code of a process that SIGTERM ended."""
KILLED = 137
"""The exit code of a process that SIGKILL ended."""


@dataclass(slots=True)
class SimulatedInstance:
    """The planned start and end. Times are seconds since the epoch; `ends_at` None: it runs until stopped."""

    begins_at: float
    ends_at: float | None = None
    exit_code: int = 0
    ignores_term: bool = False
    log: str = ""
    ended: bool = False
    """Set at the first observation after the end, so that a wall clock set back does not revive it."""

    @classmethod
    def from_labels(cls, labels: Mapping[str, str], now: float) -> SimulatedInstance:
        """Plan an instance that starts at `now`.

        Raises LaunchFailed for `simulate/fail-start`, for an unknown label and for an invalid value.
        """
        script = {key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)}
        if unknown := sorted(script.keys() - LABELS):
            raise LaunchFailed(
                f"unknown label {PREFIX}{unknown[0]}; the labels are {', '.join(sorted(LABELS))}"
            )
        if "fail-start" in script:
            raise LaunchFailed(script["fail-start"])
        begins_at = now + _seconds(script, "start-delay", 0.0)
        duration = _seconds(script, "duration", math.inf)
        return cls(
            begins_at=begins_at,
            ends_at=None if duration == math.inf else begins_at + duration,
            exit_code=_exit_code(script),
            ignores_term=_flag(script, "ignore-term"),
            log=script.get("log", "").removesuffix("\n"),
        )

    def transition_times(self) -> list[float]:
        """The times at which the observed state changes."""
        return [self.begins_at] if self.ends_at is None else [self.begins_at, self.ends_at]

    def request_stop(self, now: float, grace_seconds: float) -> bool:
        """Move the end forward to when this stop takes effect. False if the instance ends before that."""
        takes_effect = now + (max(0.0, grace_seconds) if self.ignores_term else 0.0)
        if self.ended or (self.ends_at is not None and self.ends_at <= takes_effect):
            return False
        self.ends_at = takes_effect
        self.exit_code = KILLED if self.ignores_term else TERMINATED
        self.begins_at = min(self.begins_at, takes_effect)
        return True

    def output(self, tail: int | None, after: str | None) -> Iterator[LogChunk]:
        """The log as in `Runtime.logs`, each line with a newline. A position is an offset."""
        data = f"{self.log}\n".encode(errors="replace") if self.log else b""
        begin = 0
        if after is not None:
            begin = min(int(after), len(data)) if after.isdecimal() and len(after) < 10 else 0
        elif tail is not None:
            begin = tail_position(lambda start, size: data[start : start + size], 0, len(data), tail)
        yield LogChunk(b"", str(begin))
        if begin < len(data):
            yield LogChunk(data[begin:], str(len(data)))

    def observe(self, now: float) -> Observation:
        """The state at `now`. An end that was observed is final."""
        if self.ends_at is not None and now >= self.ends_at:
            self.ended = True
        if self.ended and self.ends_at is not None:
            started, finished = _utc(self.begins_at), _utc(self.ends_at)
            return Observation(ObservedState.EXITED, self.exit_code, started_at=started, finished_at=finished)
        if now < self.begins_at:
            return Observation(ObservedState.CREATED)
        return Observation(ObservedState.RUNNING, started_at=_utc(self.begins_at))


def _seconds(script: Mapping[str, str], label: str, default: float) -> float:
    text = script.get(label)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise LaunchFailed(f"label {PREFIX}{label} must be a number of seconds, 0 or more, not {text!r}")
    return value


def _exit_code(script: Mapping[str, str]) -> int:
    text = script.get("exit-code", "0")
    if not (text.isascii() and text.isdigit() and int(text) <= 255):
        raise LaunchFailed(f"label {PREFIX}exit-code must be a whole number from 0 to 255, not {text!r}")
    return int(text)


def _flag(script: Mapping[str, str], label: str) -> bool:
    text = script.get(label, "false")
    if text not in ("true", "false"):
        raise LaunchFailed(f'label {PREFIX}{label} must be "true" or "false", not {text!r}')
    return text == "true"


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
