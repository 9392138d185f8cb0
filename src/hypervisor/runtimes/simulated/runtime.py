"""The simulated runtime: runs nothing, and answers from labels and the clock.

For scale tests, demonstrations and forecasts on a machine without an engine. `instance` lists the labels.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchSpec,
    LogChunk,
    Observation,
    ObservedState,
    Runtime,
    RuntimeInfo,
)
from hypervisor.runtimes.simulated.instance import SimulatedInstance
from hypervisor.runtimes.simulated.instance_files import InstanceFiles

MAX_TIMER_SECONDS = 1.0
"""The longest timer. The wall clock may be set forward, which a longer timer would not notice in time."""

_LIVE = (ObservedState.CREATED, ObservedState.RUNNING)


def open_runtime(setup: RuntimeSetup, _endpoint: str | None) -> Runtime:
    """See `RuntimeModule`."""
    return SimulatedRuntime(setup.data_dir, setup.install, setup.clock)


class SimulatedRuntime:
    """Implements `hypervisor.runtimes.protocol.Runtime` without running anything.

    With a `state_dir` each instance is one small file there, and a restarted server adopts it. Every state
    follows from `clock.now()`; only the hints of `changes()` use the timers of the event loop.
    """

    name = "simulated"
    ends_are_final = True
    """Only this runtime has the instances in memory, so nothing else can start one again."""

    def __init__(self, state_dir: Path | None, install: str, clock: Clock) -> None:
        self._files = None if state_dir is None else InstanceFiles(state_dir / "simulated", install)
        self._clock = clock
        self._instances: dict[str, SimulatedInstance] = {}
        self._loaded = False
        self._hints = ChangeHints()
        self._due: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "runs nothing: durations and outcomes come from labels")

    async def start(self, spec: LaunchSpec) -> Observation:
        self._load()
        instance = self._instances.get(spec.instance)
        if instance is None:
            instance = SimulatedInstance.from_labels(spec.labels, self._now())
            if self._files is not None:
                instance = self._files.create(spec.instance, instance)
            self._instances[spec.instance] = instance
            self._schedule_hints(spec.instance, instance)
            self._hints.publish(spec.instance)
        return instance.observe(self._now())

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        self._load()
        now = self._now()
        return {name: self._observe(name, now) for name in instances}

    async def stop(self, instance: str, grace_seconds: float) -> None:
        self._load()
        simulated = self._instances.get(instance)
        if simulated is None or not simulated.request_stop(self._now(), grace_seconds):
            return
        if self._files is not None:
            self._files.replace(instance, simulated)
        self._schedule_hints(instance, simulated)

    async def remove(self, instance: str) -> bool:
        self._load()
        simulated = self._instances.get(instance)
        if simulated is None:
            return True
        if simulated.observe(self._now()).state is not ObservedState.EXITED:
            return False
        del self._instances[instance]
        if self._files is not None:
            self._files.delete(instance)
        return True

    async def list_instances(self) -> Mapping[str, Observation]:
        self._load()
        now = self._now()
        return {name: simulated.observe(now) for name, simulated in self._instances.items()}

    async def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        """The lines of `simulate/log`. `remove` deletes them with the instance."""
        self._load()
        simulated = self._instances.get(instance)
        if simulated is None:
            return
        for chunk in simulated.output(tail, after):
            yield chunk
        if follow:
            await self._wait_for_end(instance)

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

    async def _wait_for_end(self, name: str) -> None:
        changes = self._hints.subscribe()
        while self._observe(name, self._now()).state in _LIVE:
            if await anext(changes, None) is None:
                return

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _observe(self, name: str, now: float) -> Observation:
        simulated = self._instances.get(name)
        return ABSENT if simulated is None else simulated.observe(now)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if self._files is not None:
            self._instances = self._files.load()
        for name, simulated in self._instances.items():
            self._schedule_hints(name, simulated)

    def _schedule_hints(self, name: str, simulated: SimulatedInstance) -> None:
        for due in simulated.transition_times():
            heapq.heappush(self._due, (due, name))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and not self._closed:
            delay = min(max(0.0, self._due[0][0] - self._now()), MAX_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self._publish_due)

    def _publish_due(self) -> None:
        now = self._now()
        while self._due and self._due[0][0] <= now:
            self._hints.publish(heapq.heappop(self._due)[1])
        self._set_timer()
