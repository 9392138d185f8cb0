"""Asking the engines that this process drives, and remembering which of them cannot be reached."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from hypervisor.control.leases.held import HeldLeases, NotHeld
from hypervisor.control.reconciler.live_attempts import LiveAttempt
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.observation import Observation
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
from hypervisor.runtimes.registry import RuntimeRegistry

OBSERVE_TIMEOUT = 30.0
IDENTIFY_TIMEOUT = 2.0
CLOSE_TIMEOUT = 5.0
SITE_RUNTIMES = frozenset({"process", "simulated"})
"""Runtimes that are nothing but this machine and its data folder."""

CordonChecks = Mapping[EngineRef, Callable[[], str | None]]
"""For engines that may have to refuse new work: what says why they do just now, or None."""

log = structlog.get_logger(__name__)


class EnginePool:
    """The runtimes as the loops see them. An engine that cannot be asked says nothing about its work."""

    def __init__(
        self,
        registry: RuntimeRegistry,
        leases: HeldLeases,
        site: str,
        cordon_checks: CordonChecks | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._registry = registry
        self._leases = leases
        self._site = site
        self._cordon_checks = cordon_checks or {}
        self._telemetry = telemetry
        self._driven: set[EngineRef] = set()
        self._unreachable: set[EngineRef] = set()
        self._cordoned: set[EngineRef] = set()
        self._newly_reachable = False

    @property
    def unreachable(self) -> Collection[EngineRef]:
        """Engines that take nothing new: they cannot be asked, or there is an obstacle."""
        return self._unreachable | {engine for engine in self._cordon_checks if self.cordon_reason(engine)}

    def cordon_reason(self, engine: EngineRef) -> str | None:
        """Why the engine takes nothing new although it answers; what runs on it goes on."""
        ask = self._cordon_checks.get(engine)
        return ask() if ask else None

    @property
    def runtimes(self) -> Collection[str]:
        """The names of all runtimes that there are."""
        return self._registry.names

    @property
    def driven(self) -> Collection[EngineRef]:
        """The engines of this process; whether the lease may be trusted now is asked at each call."""
        return frozenset(self._driven)

    def drives(self, engine: EngineRef) -> bool:
        """Whether this process may act on the engine now."""
        try:
            self._leases.engine(engine)
        except NotHeld:
            return False
        return True

    def open(self, engine: EngineRef) -> Runtime:
        """The engine's runtime. Ask for it again before each call: raises NotHeld once the lease is lost."""
        self._leases.engine(engine)
        return self._registry.get(engine)

    def known_identity(self, engine: EngineRef) -> str | None:
        """Who the engine is, where that follows from where we are."""
        return self._site if engine.runtime in SITE_RUNTIMES else None

    async def identify(self, engines: Collection[EngineRef]) -> dict[EngineRef, str]:
        """Who each engine says it is; those that do not answer in time are missing."""
        said = await asyncio.gather(*map(self._identify, engines))
        return {engine: who for engine, who in zip(engines, said, strict=True) if who is not None}

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        """These are ours to drive."""
        self._driven.update(engines)

    async def forget(self, engines: Collection[EngineRef]) -> None:
        """Others drive these from now on: what they do must not be remembered or followed here."""
        self._driven.difference_update(engines)
        self._unreachable.difference_update(engines)
        for engine in engines:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._registry.forget(engine)
            except (TimeoutError, OSError) as error:
                log.warning(
                    "engine.close_failed", runtime=engine.runtime, endpoint=engine.endpoint, error=str(error)
                )

    async def observe(self, work: Iterable[LiveAttempt]) -> dict[str, Observation]:
        """What the engines say about these attempts; those of unreachable engines are missing."""
        by_engine: dict[EngineRef, list[str]] = defaultdict(list)
        for item in work:
            by_engine[item.engine].append(item.instance)
        seen: dict[str, Observation] = {}
        for answers in await asyncio.gather(
            *(self._observe_engine(e, names) for e, names in by_engine.items())
        ):
            seen.update(answers)
        return seen

    def mark_unreachable(self, engine: EngineRef, error: Exception) -> None:
        """A call to the engine failed in a way that says nothing about the workload."""
        if engine not in self._unreachable:
            log.warning(
                "engine.unreachable", runtime=engine.runtime, endpoint=engine.endpoint, error=str(error)
            )
        self._unreachable.add(engine)
        if self._telemetry is not None:
            self._telemetry.metrics.runtime_errors.labels(engine.runtime, "unavailable").inc()

    def mark_reachable(self, engine: EngineRef) -> None:
        if engine in self._unreachable:
            log.info("engine.reachable", runtime=engine.runtime, endpoint=engine.endpoint)
            self._newly_reachable = True
        self._unreachable.discard(engine)

    async def retry_unreachable(self) -> bool:
        """Probe the engines that could not be reached; True when one takes work again since the last call."""
        self._update_cordoned()
        for engine in list(self._unreachable):
            try:
                async with asyncio.timeout(OBSERVE_TIMEOUT):
                    await self.open(engine).probe()
            except (RuntimeUnavailable, NotHeld, TimeoutError):
                continue
            self.mark_reachable(engine)
        back, self._newly_reachable = self._newly_reachable, False
        return back

    def _update_cordoned(self) -> None:
        closed = {engine: why for engine in self._cordon_checks if (why := self.cordon_reason(engine))}
        for engine in closed.keys() - self._cordoned:
            log.warning(
                "engine.cordoned", runtime=engine.runtime, endpoint=engine.endpoint, why=closed[engine]
            )
        for engine in self._cordoned - closed.keys():
            log.info("engine.uncordoned", runtime=engine.runtime, endpoint=engine.endpoint)
            self._newly_reachable = True
        self._cordoned = set(closed)

    async def _identify(self, engine: EngineRef) -> str | None:
        if (known := self.known_identity(engine)) is not None:
            return known
        if engine.runtime not in self._registry.names:
            return None
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT):
                return (await self._registry.get(engine).probe()).identity or self._site
        except (RuntimeUnavailable, TimeoutError, ValueError) as error:
            log.warning(
                "engine.unidentified", runtime=engine.runtime, endpoint=engine.endpoint, error=str(error)
            )
            return None

    async def _observe_engine(self, engine: EngineRef, instances: list[str]) -> Mapping[str, Observation]:
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT):
                seen = await self.open(engine).observe(instances)
        except NotHeld:
            return {}
        except (RuntimeUnavailable, TimeoutError) as error:
            self.mark_unreachable(engine, error)
            return {}
        self.mark_reachable(engine)
        return seen
