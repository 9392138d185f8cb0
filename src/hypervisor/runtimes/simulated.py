"""Instances that only exist on paper: what they do and when they end is written in their labels.

For scale tests, demonstrations and what-if questions on a machine without an engine. Labels:

    simulate/duration     seconds until it ends by itself (without it: runs until stopped)
    simulate/exit-code    0..255, what it ends with (default 0)
    simulate/start-delay  seconds that it stays CREATED before it runs (default 0)
    simulate/fail-start   start() raises LaunchFailed with this text
    simulate/ignore-term  "true": a stop takes effect only when the grace period is over
    simulate/log          the lines that it writes, all at its start
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import os
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.hints import ChangeHints
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeInfo,
)

PREFIX = "simulate/"
LABELS = frozenset({"duration", "exit-code", "start-delay", "fail-start", "ignore-term", "log"})
TERMINATED = 143
KILLED = 137
LONGEST_WAIT = 1.0
"""Seconds between two looks at the clock while an instance has something before it."""


class SimulatedRuntime:
    """Implements `hypervisor.runtimes.protocol.Runtime` without running anything.

    With a `state_dir` each instance is one small file there, so that a restarted server finds them again.
    All decisions are made by `clock.now()`; only the hints of `changes()` use the loop's timers.
    """

    name = "simulated"

    def __init__(self, state_dir: Path | None, install: str, clock: Clock) -> None:
        self._files = None if state_dir is None else InstanceFiles(state_dir / "simulated", install)
        self._clock = clock
        self._instances: dict[str, _Instance] = {}
        self._loaded = False
        self._hints = ChangeHints()
        self._due: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "nothing really runs: durations and outcomes come from labels")

    async def start(self, spec: LaunchSpec) -> Observation:
        self._load()
        known = self._instances.get(spec.instance)
        if known is None:
            known = _Instance.from_labels(spec.labels, self._now())
            if self._files is not None:
                known = self._files.create(spec.instance, known)
            self._instances[spec.instance] = known
            self._watch(spec.instance, known)
            self._hints.publish(spec.instance)
        return known.look(self._now())

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        self._load()
        now = self._now()
        return {name: self._find(name, now) for name in instances}

    async def stop(self, instance: str, grace_seconds: float) -> None:
        self._load()
        known = self._instances.get(instance)
        if known is None or not known.request_stop(self._now(), grace_seconds):
            return
        if self._files is not None:
            self._files.replace(instance, known)
        self._watch(instance, known)

    async def remove(self, instance: str) -> None:
        self._load()
        known = self._instances.get(instance)
        if known is None or known.look(self._now()).state is not ObservedState.EXITED:
            return
        del self._instances[instance]
        if self._files is not None:
            self._files.delete(instance)

    async def list_instances(self) -> Mapping[str, Observation]:
        self._load()
        now = self._now()
        return {name: known.look(now) for name, known in self._instances.items()}

    async def logs(
        self, instance: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """The lines of `simulate/log`. They go with the instance: nothing is kept after `remove`."""
        self._load()
        known = self._instances.get(instance)
        if known is None:
            return
        lines = known.log.split("\n") if known.log else []
        for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
            yield line
        if follow:
            await self._ended(instance)

    async def purge_logs(self, instance: str) -> None:
        """Nothing to delete: see `logs`."""

    def changes(self) -> AsyncIterator[str]:
        self._load()
        return self._hints.subscribe()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._hints.close()

    async def _ended(self, instance: str) -> None:
        changes = self._hints.subscribe()
        while self._find(instance, self._now()).state in _LIVE:
            if await anext(changes, None) is None:
                return

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _find(self, instance: str, now: float) -> Observation:
        known = self._instances.get(instance)
        return ABSENT if known is None else known.look(now)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if self._files is not None:
            self._instances = self._files.load()
        for name, known in self._instances.items():
            self._watch(name, known)

    def _watch(self, instance: str, known: _Instance) -> None:
        for due in known.turning_points():
            heapq.heappush(self._due, (due, instance))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and not self._closed:
            # The wall clock may be set forward, which no timer notices.
            delay = min(max(0.0, self._due[0][0] - self._now()), LONGEST_WAIT)
            self._timer = asyncio.get_running_loop().call_later(delay, self._publish_due)

    def _publish_due(self) -> None:
        now = self._now()
        while self._due and self._due[0][0] <= now:
            self._hints.publish(heapq.heappop(self._due)[1])
        self._set_timer()


_LIVE = (ObservedState.CREATED, ObservedState.RUNNING)


@dataclass(slots=True)
class _Instance:
    """What one instance will do. Times are seconds since the epoch; `ends_at` is None for "until stopped"."""

    begins_at: float
    ends_at: float | None = None
    exit_code: int = 0
    ignores_term: bool = False
    log: str = ""
    ended: bool = False
    """Seen to have ended: stays so even if the wall clock is set back."""

    @classmethod
    def from_labels(cls, labels: Mapping[str, str], now: float) -> _Instance:
        """Raises LaunchFailed for `simulate/fail-start` and for values that make no sense."""
        script = {key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)}
        if unknown := sorted(script.keys() - LABELS):
            raise LaunchFailed(f"unknown label {PREFIX}{unknown[0]}; known are {', '.join(sorted(LABELS))}")
        if "fail-start" in script:
            raise LaunchFailed(script["fail-start"])
        begins_at = now + _seconds(script, "start-delay", 0.0)
        lasts = _seconds(script, "duration", math.inf)
        return cls(
            begins_at=begins_at,
            ends_at=None if lasts == math.inf else begins_at + lasts,
            exit_code=_exit_code(script),
            ignores_term=_flag(script, "ignore-term"),
            log=script.get("log", "").removesuffix("\n"),
        )

    def turning_points(self) -> list[float]:
        return [self.begins_at] if self.ends_at is None else [self.begins_at, self.ends_at]

    def request_stop(self, now: float, grace_seconds: float) -> bool:
        """Bring the end forward to when a stop asked for now takes effect; False if it ends before anyway."""
        takes_effect = now + (max(0.0, grace_seconds) if self.ignores_term else 0.0)
        if self.ended or (self.ends_at is not None and self.ends_at <= takes_effect):
            return False
        self.ends_at = takes_effect
        self.exit_code = KILLED if self.ignores_term else TERMINATED
        self.begins_at = min(self.begins_at, takes_effect)
        return True

    def look(self, now: float) -> Observation:
        if self.ends_at is not None and now >= self.ends_at:
            self.ended = True
        if self.ended and self.ends_at is not None:
            begun, ended = _utc(self.begins_at), _utc(self.ends_at)
            return Observation(ObservedState.EXITED, self.exit_code, started_at=begun, finished_at=ended)
        if now < self.begins_at:
            return Observation(ObservedState.CREATED)
        return Observation(ObservedState.RUNNING, started_at=_utc(self.begins_at))


class InstanceFiles:
    """One JSON file an instance; a name is created exactly once, whoever asks."""

    def __init__(self, folder: Path, install: str) -> None:
        self._folder = folder
        self._install = install
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, instance: str, wanted: _Instance) -> _Instance:
        """Write `wanted` unless the name is taken; what the file says afterwards."""
        draft = self._write_draft(instance, wanted)
        try:
            os.link(draft, self._folder / f"{instance}.json")
        except FileExistsError:
            return self._read(self._folder / f"{instance}.json") or wanted
        finally:
            draft.unlink()
        return wanted

    def replace(self, instance: str, known: _Instance) -> None:
        self._write_draft(instance, known).replace(self._folder / f"{instance}.json")

    def delete(self, instance: str) -> None:
        (self._folder / f"{instance}.json").unlink(missing_ok=True)

    def load(self) -> dict[str, _Instance]:
        found = {}
        for path in self._folder.glob("hv-*.json"):
            name = InstanceName.parse(path.stem)
            known = self._read(path)
            if name is not None and name.install == self._install and known is not None:
                found[path.stem] = known
        return found

    def _write_draft(self, instance: str, known: _Instance) -> Path:
        draft = self._folder / f".{instance}.{os.getpid()}.{id(known):x}"
        draft.write_text(json.dumps(asdict(known)))
        return draft

    def read(self, instance: str) -> _Instance | None:
        """None where there is no such instance."""
        return self._read(self._folder / f"{instance}.json")

    def _read(self, path: Path) -> _Instance | None:
        """None for a file that a power cut left empty: nothing ran, so nothing is lost."""
        try:
            return _Instance(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def _seconds(script: Mapping[str, str], label: str, default: float) -> float:
    text = script.get(label)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise LaunchFailed(f"label {PREFIX}{label} must be a number of seconds from 0 up, not {text!r}")
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
