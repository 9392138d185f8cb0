"""Reads simulated instances from their files while another process drives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.protocol import ABSENT, LogChunk, Observation, ObservedState, Runtime, RuntimeInfo
from hypervisor.runtimes.read_only import ReadOnlyRuntime
from hypervisor.runtimes.simulated.instance_files import InstanceFiles

POLL_SECONDS = 0.25


def open_reader(setup: RuntimeSetup) -> Runtime:
    """See `RuntimeModule`."""
    return ReadOnlySimulatedRuntime(setup.data_dir, setup.install, setup.clock)


class ReadOnlySimulatedRuntime(ReadOnlyRuntime):
    """Reads the files that the `SimulatedRuntime` of the same installation writes on a shared disk."""

    def __init__(self, state_dir: Path, install: str, clock: Clock) -> None:
        self._files = InstanceFiles(state_dir / "simulated", install)
        self._clock = clock

    @property
    def name(self) -> str:
        return "simulated"

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "runs nothing: durations and outcomes come from labels")

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        return {name: self._observe(name) for name in instances}

    async def list_instances(self) -> Mapping[str, Observation]:
        return {name: self._observe(name) for name in self._files.load()}

    async def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        """The lines of `simulate/log`. With `follow` the iterator ends when the instance has ended."""
        simulated = self._files.read(instance) if InstanceName.parse(instance) else None
        if simulated is None:
            return
        for chunk in simulated.output(tail, after):
            yield chunk
        while follow:
            if self._observe(instance).state not in (ObservedState.CREATED, ObservedState.RUNNING):
                return
            await asyncio.sleep(POLL_SECONDS)

    def _observe(self, name: str) -> Observation:
        simulated = self._files.read(name) if InstanceName.parse(name) else None
        return ABSENT if simulated is None else simulated.observe(self._clock.now().timestamp())
