"""The faults of a history, drawn from its seed. Each kind of fault occurs in some histories only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random

from hypervisor.infra.wakeup import Wakeup
from hypervisor.runtimes.protocol import LaunchSpec, LogChunk, Observation, RuntimeInfo, RuntimeUnavailable
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime


@dataclass(slots=True)
class Faults:
    """The probability or number of each fault; 0 for the faults that do not occur in this history."""

    crashes: int = 0
    """The number of server crashes."""
    lost_hints: float = 0.0
    failed_calls: float = 0.0
    """Engine calls that fail without any effect."""
    lost_responses: float = 0.0
    """Engine calls that take effect but return no response."""
    slow_statements: float = 0.0
    disconnects: int = 0
    """The number of times that the engine is unreachable for a while."""
    clock_jumps: int = 0
    accidents: int = 0
    """The number of instances that are killed or removed outside of the product."""
    restarts: int = 0
    """The number of running or ended instances that are started again outside of the product."""

    @classmethod
    def draw(cls, random: Random) -> Faults:
        def sometimes(chance: float) -> float:
            return chance if random.random() < 0.5 else 0.0

        return cls(
            crashes=random.choice((0, 1, 1, 2)),
            lost_hints=sometimes(0.3),
            failed_calls=sometimes(0.1),
            lost_responses=sometimes(0.1),
            slow_statements=sometimes(0.1),
            disconnects=random.choice((0, 0, 1)),
            clock_jumps=random.choice((0, 0, 1)),
            accidents=random.choice((0, 0, 1)),
            restarts=random.choice((0, 0, 3)),
        )


class LossyWakeup(Wakeup):
    """Loses some hints; nothing may depend on a hint."""

    def __init__(self, random: Random, faults: Faults) -> None:
        super().__init__()
        self._random = random
        self._faults = faults

    def notify(self, topic: str) -> None:
        if not self._faults.lost_hints or self._random.random() >= self._faults.lost_hints:
            super().notify(topic)


class RestartingEngine(SimulatedRuntime):
    """An engine on which instances can be started again from outside, as with `docker restart`."""

    ends_are_final = False

    def restart(self, name: str, now: float) -> None:
        """Run an instance again until it is stopped."""
        instance = self._instances[name]
        instance.begins_at, instance.ends_at, instance.ended = now, None, False
        self._hints.publish(name)


class UnreliableEngine:
    """One server's connection to the engine, with faults. Implements `hypervisor.runtimes.protocol.Runtime`.

    `step` is called before and after each call and raises if the server dies there.
    """

    def __init__(
        self, inner: SimulatedRuntime, random: Random, faults: Faults, step: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._random = random
        self._faults = faults
        self._step = step
        self.disconnected = False

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def ends_are_final(self) -> bool:
        return self._inner.ends_are_final

    async def probe(self) -> RuntimeInfo:
        await self._before_call()
        return await self._inner.probe()

    async def start(self, spec: LaunchSpec) -> Observation:
        await self._before_call()
        observation = await self._inner.start(spec)
        await self._after_call()
        return observation

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        await self._before_call()
        return await self._inner.observe(instances)

    async def stop(self, instance: str, grace_seconds: float) -> None:
        await self._before_call()
        await self._inner.stop(instance, grace_seconds)
        await self._after_call()

    async def remove(self, instance: str) -> bool:
        await self._before_call()
        removed = await self._inner.remove(instance)
        await self._after_call()
        return removed

    async def list_instances(self) -> Mapping[str, Observation]:
        await self._before_call()
        return await self._inner.list_instances()

    def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        return self._inner.logs(instance, tail=tail, after=after, follow=follow)

    async def purge_logs(self, instance: str) -> None:
        await self._before_call()
        await self._inner.purge_logs(instance)

    async def changes(self) -> AsyncIterator[str]:
        async for instance in self._inner.changes():
            if not self.disconnected and self._random.random() >= self._faults.lost_hints:
                yield instance

    async def close(self) -> None:
        """The engine outlives its clients."""

    async def _before_call(self) -> None:
        self._step()
        if self._faults.slow_statements and self._random.random() < self._faults.slow_statements:
            await asyncio.sleep(self._random.random() * 2)
            self._step()
        if self.disconnected or self._random.random() < self._faults.failed_calls:
            raise RuntimeUnavailable("the engine does not respond")

    async def _after_call(self) -> None:
        self._step()
        if self._random.random() < self._faults.lost_responses:
            raise RuntimeUnavailable("the response of the engine was lost")
