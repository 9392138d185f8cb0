"""What can be read of simulated workloads from their files alone, while another process drives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.protocol import ABSENT, Observation, ObservedState, RuntimeInfo
from hypervisor.runtimes.read_only import ReadOnlyRuntime
from hypervisor.runtimes.simulated import InstanceFiles

POLL_SECONDS = 0.25


class SimulatedReader(ReadOnlyRuntime):
    """Reads the files that a `SimulatedRuntime` of the same installation writes, on a shared disk."""

    def __init__(self, state_dir: Path, install: str, clock: Clock) -> None:
        self._files = InstanceFiles(state_dir / "simulated", install)
        self._clock = clock

    @property
    def name(self) -> str:
        return "simulated"

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "nothing really runs: durations and outcomes come from labels")

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        return {name: self._look(name) for name in instances}

    async def list_instances(self) -> Mapping[str, Observation]:
        return {name: self._look(name) for name in self._files.load()}

    async def logs(
        self, instance: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """The lines of `simulate/log`; with `follow` it waits for the end."""
        known = self._files.read(instance) if InstanceName.parse(instance) else None
        if known is None:
            return
        lines = known.log.split("\n") if known.log else []
        for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
            yield line
        while follow:
            if self._look(instance).state not in (ObservedState.CREATED, ObservedState.RUNNING):
                return
            await asyncio.sleep(POLL_SECONDS)

    def _look(self, instance: str) -> Observation:
        known = self._files.read(instance) if InstanceName.parse(instance) else None
        return ABSENT if known is None else known.look(self._clock.now().timestamp())
