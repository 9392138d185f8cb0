"""What goes wrong in a history, drawn from its seed: each kind of fault is there in some histories only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random

from hypervisor.infra.wakeup import Wakeup
from hypervisor.runtimes.protocol import LaunchSpec, Observation, RuntimeInfo, RuntimeUnavailable
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime


@dataclass(slots=True)
class Faults:
    """Chances of each fault at each occasion, 0 for those that this history does without."""

    crashes: int = 0
    """How often the server dies."""
    lost_hints: float = 0.0
    refused_calls: float = 0.0
    """Engine calls that fail before they have done anything."""
    lost_answers: float = 0.0
    """Engine calls that were done, but whose answer never comes."""
    slow_statements: float = 0.0
    cuts: int = 0
    """How often the engine cannot be reached for a while."""
    clock_jumps: int = 0
    accidents: int = 0
    """How often an instance is killed or removed behind our back."""

    @classmethod
    def draw(cls, random: Random) -> Faults:
        def some(chance: float) -> float:
            return chance if random.random() < 0.5 else 0.0

        return cls(
            crashes=random.choice((0, 1, 1, 2)),
            lost_hints=some(0.3),
            refused_calls=some(0.1),
            lost_answers=some(0.1),
            slow_statements=some(0.1),
            cuts=random.choice((0, 0, 1)),
            clock_jumps=random.choice((0, 0, 1)),
            accidents=random.choice((0, 0, 1)),
        )


class LossyWakeup(Wakeup):
    """Loses some hints: nothing may depend on one."""

    def __init__(self, random: Random, faults: Faults) -> None:
        super().__init__()
        self._random = random
        self._faults = faults

    def notify(self, topic: str) -> None:
        if not self._faults.lost_hints or self._random.random() >= self._faults.lost_hints:
            super().notify(topic)


class ShakyEngine:
    """One server's way to the engine. Implements `hypervisor.runtimes.protocol.Runtime`.

    `step` is called before and after each call and raises when the server has died there.
    """

    def __init__(
        self, inner: SimulatedRuntime, random: Random, faults: Faults, step: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._random = random
        self._faults = faults
        self._step = step
        self.cut = False

    @property
    def name(self) -> str:
        return self._inner.name

    async def probe(self) -> RuntimeInfo:
        await self._go()
        return await self._inner.probe()

    async def start(self, spec: LaunchSpec) -> Observation:
        await self._go()
        seen = await self._inner.start(spec)
        await self._come_back()
        return seen

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        await self._go()
        return await self._inner.observe(instances)

    async def stop(self, instance: str, grace_seconds: float) -> None:
        await self._go()
        await self._inner.stop(instance, grace_seconds)
        await self._come_back()

    async def remove(self, instance: str) -> None:
        await self._go()
        await self._inner.remove(instance)
        await self._come_back()

    async def list_instances(self) -> Mapping[str, Observation]:
        await self._go()
        return await self._inner.list_instances()

    def logs(self, instance: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[str]:
        return self._inner.logs(instance, tail=tail, follow=follow)

    async def purge_logs(self, instance: str) -> None:
        await self._go()
        await self._inner.purge_logs(instance)

    async def changes(self) -> AsyncIterator[str]:
        async for instance in self._inner.changes():
            if not self.cut and self._random.random() >= self._faults.lost_hints:
                yield instance

    async def close(self) -> None:
        """The engine outlives its clients."""

    async def _go(self) -> None:
        self._step()
        if self._faults.slow_statements and self._random.random() < self._faults.slow_statements:
            await asyncio.sleep(self._random.random() * 2)
            self._step()
        if self.cut or self._random.random() < self._faults.refused_calls:
            raise RuntimeUnavailable("the engine does not answer")

    async def _come_back(self) -> None:
        self._step()
        if self._random.random() < self._faults.lost_answers:
            raise RuntimeUnavailable("the answer of the engine was lost")
