"""Asking engines, with a bound on time, and remembering which of them cannot be reached."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from hypervisor.control.snapshots import Engine
from hypervisor.control.work import LiveAttempt
from hypervisor.kernel.observation import Observation
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
from hypervisor.runtimes.registry import RuntimeRegistry

OBSERVE_TIMEOUT = 30.0

Obstacles = Mapping[Engine, Callable[[], str | None]]
"""For engines that may have to refuse new work: what says why they do just now, or None."""

log = structlog.get_logger(__name__)


class Engines:
    """The runtimes as the loops see them. An engine that cannot be asked says nothing about its work."""

    def __init__(self, registry: RuntimeRegistry, obstacles: Obstacles | None = None) -> None:
        self._registry = registry
        self._obstacles = obstacles or {}
        self._unreachable: set[Engine] = set()
        self._closed: set[Engine] = set()
        self._newly_reachable = False

    @property
    def unreachable(self) -> Collection[Engine]:
        """Engines that take nothing new: they cannot be asked, or there is an obstacle."""
        return self._unreachable | {engine for engine in self._obstacles if self.obstacle(engine)}

    def obstacle(self, engine: Engine) -> str | None:
        """Why the engine takes nothing new although it answers; what runs on it goes on."""
        ask = self._obstacles.get(engine)
        return ask() if ask else None

    def open(self, engine: Engine) -> Runtime:
        return self._registry.get(*engine)

    async def observe(self, work: Iterable[LiveAttempt]) -> dict[str, Observation]:
        """What the engines say about these attempts; those of unreachable engines are missing."""
        by_engine: dict[Engine, list[str]] = defaultdict(list)
        for item in work:
            by_engine[item.engine].append(item.instance)
        seen: dict[str, Observation] = {}
        for answers in await asyncio.gather(*(self._ask(e, names) for e, names in by_engine.items())):
            seen.update(answers)
        return seen

    def failed(self, engine: Engine, error: Exception) -> None:
        """A call to the engine failed in a way that says nothing about the workload."""
        if engine not in self._unreachable:
            log.warning("engine.unreachable", runtime=engine[0], endpoint=engine[1], error=str(error))
        self._unreachable.add(engine)

    def answered(self, engine: Engine) -> None:
        if engine in self._unreachable:
            log.info("engine.reachable", runtime=engine[0], endpoint=engine[1])
            self._newly_reachable = True
        self._unreachable.discard(engine)

    async def retry_unreachable(self) -> bool:
        """Probe the engines that could not be reached; True when one takes work again since the last call."""
        self._notice_obstacles()
        for engine in list(self._unreachable):
            try:
                async with asyncio.timeout(OBSERVE_TIMEOUT):
                    await self.open(engine).probe()
            except (RuntimeUnavailable, TimeoutError):
                continue
            self.answered(engine)
        back, self._newly_reachable = self._newly_reachable, False
        return back

    def _notice_obstacles(self) -> None:
        closed = {engine: why for engine in self._obstacles if (why := self.obstacle(engine))}
        for engine in closed.keys() - self._closed:
            log.warning("engine.closed", runtime=engine[0], endpoint=engine[1], why=closed[engine])
        for engine in self._closed - closed.keys():
            log.info("engine.open", runtime=engine[0], endpoint=engine[1])
            self._newly_reachable = True
        self._closed = set(closed)

    async def _ask(self, engine: Engine, instances: list[str]) -> Mapping[str, Observation]:
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT):
                seen = await self.open(engine).observe(instances)
        except (RuntimeUnavailable, TimeoutError) as error:
            self.failed(engine, error)
            return {}
        self.answered(engine)
        return seen
