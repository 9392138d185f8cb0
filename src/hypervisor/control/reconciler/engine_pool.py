"""The engines that this server drives: calls to them, their reachability and their cordons."""

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
from hypervisor.runtimes.kinds import local_runtimes
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
from hypervisor.runtimes.registry import RuntimeRegistry

OBSERVE_TIMEOUT = 30.0
IDENTIFY_TIMEOUT = 2.0
CLOSE_TIMEOUT = 5.0

CordonChecks = Mapping[EngineRef, Callable[[], str | None]]
"""For engines that this server may cordon: a check that returns the reason, or None."""

log = structlog.get_logger(__name__)


class EnginePool:
    """Access to the runtimes for the loops. No conclusion is drawn about workloads of unreachable engines."""

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
        """Engines that accept no new attempts: unreachable and cordoned ones."""
        return self._unreachable | {engine for engine in self._cordon_checks if self.cordon_reason(engine)}

    def cordon_reason(self, engine: EngineRef) -> str | None:
        """Why a reachable engine accepts no new attempts, or None; its workloads keep running."""
        check = self._cordon_checks.get(engine)
        return check() if check else None

    @property
    def runtimes(self) -> Collection[str]:
        """The names of all registered runtimes."""
        return self._registry.names

    @property
    def driven(self) -> Collection[EngineRef]:
        """The engines of this server; the trust in their leases is checked at each call."""
        return frozenset(self._driven)

    def drives(self, engine: EngineRef) -> bool:
        """Whether this server may act on the engine now."""
        try:
            self._leases.engine(engine)
        except NotHeld:
            return False
        return True

    def open(self, engine: EngineRef) -> Runtime:
        """The engine's runtime. Call this before each use: it raises NotHeld once the lease is lost."""
        self._leases.engine(engine)
        return self._registry.get(engine)

    def known_identity(self, engine: EngineRef) -> str | None:
        """The identity of an engine that belongs to this site, else None."""
        return self._site if engine.runtime in local_runtimes() else None

    async def identify(self, engines: Collection[EngineRef]) -> dict[EngineRef, str]:
        """The identity that each engine reports; engines that do not respond in time are missing."""
        identities = await asyncio.gather(*map(self._identify, engines))
        return {
            engine: identity
            for engine, identity in zip(engines, identities, strict=True)
            if identity is not None
        }

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        """Drive these engines from now on."""
        self._driven.update(engines)

    async def forget(self, engines: Collection[EngineRef]) -> None:
        """Stop driving these engines: drop their state and close their connections."""
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

    async def observe(self, attempts: Iterable[LiveAttempt]) -> dict[str, Observation]:
        """The engines' observations of these attempts; attempts on unreachable engines are missing."""
        by_engine: dict[EngineRef, list[str]] = defaultdict(list)
        for attempt in attempts:
            by_engine[attempt.engine].append(attempt.instance)
        observations: dict[str, Observation] = {}
        for observed in await asyncio.gather(
            *(self._observe_engine(engine, names) for engine, names in by_engine.items())
        ):
            observations.update(observed)
        return observations

    def mark_unreachable(self, engine: EngineRef, error: Exception) -> None:
        """Note a failed call that allows no conclusion about the workload."""
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
        """Probe the unreachable engines; whether an engine takes work again since the last call."""
        self._update_cordoned()
        for engine in list(self._unreachable):
            try:
                async with asyncio.timeout(OBSERVE_TIMEOUT):
                    await self.open(engine).probe()
            except (RuntimeUnavailable, NotHeld, TimeoutError):
                continue
            self.mark_reachable(engine)
        reachable_again, self._newly_reachable = self._newly_reachable, False
        return reachable_again

    def _update_cordoned(self) -> None:
        cordoned = {engine: why for engine in self._cordon_checks if (why := self.cordon_reason(engine))}
        for engine in cordoned.keys() - self._cordoned:
            log.warning(
                "engine.cordoned", runtime=engine.runtime, endpoint=engine.endpoint, why=cordoned[engine]
            )
        for engine in self._cordoned - cordoned.keys():
            log.info("engine.uncordoned", runtime=engine.runtime, endpoint=engine.endpoint)
            self._newly_reachable = True
        self._cordoned = set(cordoned)

    async def _identify(self, engine: EngineRef) -> str | None:
        if (identity := self.known_identity(engine)) is not None:
            return identity
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
                observations = await self.open(engine).observe(instances)
        except NotHeld:
            return {}
        except (RuntimeUnavailable, TimeoutError) as error:
            self.mark_unreachable(engine, error)
            return {}
        self.mark_reachable(engine)
        return observations
