"""Acquires, renews and releases the leases of this server: a fair share of the clusters and engines.

Each turn renews the leases when due (all leases and the heartbeat in one transaction), loads the live servers
and the holders, releases surplus leases and acquires free ones. A server that dies loses its leases when they
expire; a server that stops releases all of them at once.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.control.leases import engine_registry
from hypervisor.control.leases.balancing import LeaseChanges, rebalance
from hypervisor.control.leases.engine_driver import EngineDriver
from hypervisor.control.leases.held import MAINTENANCE, TOPIC, HeldLeases, cluster_lease, engine_lease
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.randomness import Random
from hypervisor.store import leases as lease_store
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import Cluster, EngineState

EXCLUDE_SECONDS = 10.0
"""How long this server leaves an engine to others after the engine did not report its identity."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: the lifetime of a lease, the interval of renewals, the interval of turns."""

    ttl: float = 15.0
    renew: float = 10.0
    retry: float = 2.0

    @classmethod
    def for_ttl(cls, ttl: float) -> LeaseTimes:
        """The default proportions for another lifetime."""
        return cls(ttl, ttl * 2 / 3, min(2.0, ttl * 2 / 15))

    @property
    def ttl_delta(self) -> timedelta:
        return timedelta(seconds=self.ttl)


@dataclass(frozen=True, slots=True)
class _LeaseView:
    """The live servers with their exclusions, the holders, and all leases that exist."""

    servers: Mapping[str, Collection[str]]
    holders: Mapping[str, str]
    clusters: tuple[str, ...]
    engines: Mapping[str, EngineRef]
    states: Mapping[str, EngineState]


class LeaseManager:
    """Manages the leases of one server, `name` in its rows. The loops read `leases`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        leases: HeldLeases,
        driver: EngineDriver,
        *,
        random: Random,
        default_engines: Collection[EngineRef] = (),
        times: LeaseTimes | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`default_engines` get leases even without a node."""
        self.name = f"{random.getrandbits(64):016x}"
        self._host = f"{socket.gethostname()}:{os.getpid()}"
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._leases = leases
        self._driver = driver
        self._times = times or LeaseTimes()
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._engines: dict[str, EngineRef] = {engine_lease(engine): engine for engine in default_engines}
        self._identities: dict[str, str] = {}
        self._excluded: frozenset[str] = frozenset()
        self._unreachable_until: dict[str, float] = {}
        self._acquired: set[str] = set()
        self._renew_at = -math.inf

    @property
    def _is_single_server(self) -> bool:
        """A lock allows one server process on a SQLite file, so an old lease is that of a dead process."""
        return self._database.is_sqlite

    async def run(self) -> None:
        """Keep a fair share of the leases until cancelled; call `release_all` afterwards."""
        while True:
            await self._step_safely()
            pause = self._times.renew if self._is_single_server else self._times.retry
            await self._leases.listener.wait(pause)

    async def step(self) -> None:
        """One turn. Raises the errors of the database; nothing was acquired then."""
        # A loop may have invalidated a lease: stop driving its engine before any server acquires it again.
        await self._drop(self._acquired - self._leases.names())
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
        view = await self._load_view()
        await self._cordon_stranded(view)
        changes = self._lease_changes(view)
        if changes.release:
            await self._release(changes.release)
        if changes.acquire:
            await self._acquire(changes.acquire)
        self._leases.observed([*view.clusters, *view.engines, MAINTENANCE])

    async def release_all(self) -> None:
        """Release all leases, to save others the wait for the expiry. The loops must have ended."""
        self._leases.drop(self._leases.names())

        async def transaction(session: WriteSession) -> None:
            now = await lease_store.lease_time(session, self._clock.now())
            await lease_store.unregister(session, self.name, now)

        await self._database.transact(transaction)
        self._wakeup.notify(TOPIC)

    async def _step_safely(self) -> None:
        try:
            await self.step()
            self._telemetry.heartbeats.beat("leases")
        except Exception as error:
            # An unreachable database must not end the loop: trust ends by itself.
            log.warning("leases.step_failed", error=str(error))
            await self._drop(self._leases.overdue())

    async def _renew(self) -> None:
        reached("lease_before_renew")
        started_at = self._clock.monotonic()
        names = self._leases.names()

        async def transaction(session: WriteSession) -> set[str]:
            now = await lease_store.lease_time(session, self._clock.now())
            await lease_store.heartbeat(
                session, self.name, self._host, self._excluded, now, self._times.ttl_delta
            )
            kept: set[str] = set()
            for chunk in chunks(sorted(names)):
                kept |= await lease_store.renew_all(session, chunk, self.name, now, self._times.ttl_delta)
            return kept

        kept = await self._database.transact(transaction)
        reached("lease_after_renew")
        self._leases.renew(kept, self._trusted_until(started_at))
        self._renew_at = started_at + self._times.renew
        if lost := names - kept:
            log.warning("leases.lost", leases=sorted(lost)[:20])
            await self._drop(lost)

    async def _load_view(self) -> _LeaseView:
        async with self._database.read() as session:
            clusters = tuple(cluster_lease(id_) for id_ in await session.scalars(select(Cluster.id)))
            states = await engine_registry.registered_engines(session)
            found = await engine_registry.find_engines(session)
            found |= {EngineRef(state.runtime, state.endpoint) for state in states.values()}
            self._engines.update((engine_lease(engine), engine) for engine in found)
            if self._is_single_server:
                held = dict.fromkeys(self._leases.names(), self.name)
                return _LeaseView({self.name: ()}, held, clusters, dict(self._engines), {})
            now = await lease_store.lease_time(session, self._clock.now())
            excluded = await self._load_excluded(session, states)
            servers = {**await lease_store.live_servers(session, now), self.name: excluded}
            held = await lease_store.holders(session, now)
        self._excluded, previous = excluded, self._excluded
        if excluded != previous:
            # Publish the exclusions before other servers leave these leases to this one.
            self._renew_at = -math.inf
            self._leases.listener.set()
        return _LeaseView(servers, self._trusted_holders(held), clusters, dict(self._engines), states)

    def _trusted_holders(self, held: Mapping[str, str]) -> dict[str, str]:
        """The holders without the leases that this server no longer trusts: it must acquire them again."""
        own = self._leases.names()
        return {name: holder for name, holder in held.items() if holder != self.name or name in own}

    async def _load_excluded(
        self, session: AsyncSession, states: Mapping[str, EngineState]
    ) -> frozenset[str]:
        """The engines that only others can drive: unreachable ones, and those whose live attempts run under
        another identity.
        """
        now = self._clock.monotonic()
        self._unreachable_until = {
            name: until for name, until in self._unreachable_until.items() if until > now
        }
        excluded = set(self._unreachable_until)
        for name, engine in self._engines.items():
            identity = self._driver.known_identity(engine) or self._identities.get(name)
            state = states.get(name)
            if state is None or identity is None or state.engine_identity in (None, identity):
                continue
            if await engine_registry.has_live_attempt(session, engine):
                excluded.add(name)
        return frozenset(excluded)

    async def _cordon_stranded(self, view: _LeaseView) -> None:
        """Cordon the engines that every live server excludes."""
        stranded = [
            name
            for name, state in view.states.items()
            if state.cordoned_since is None
            and name not in view.holders
            and all(name in excluded for excluded in view.servers.values())
        ]
        if stranded:
            log.warning("engines.stranded", engines=sorted(stranded)[:20])
            now = self._clock.now()
            await self._database.transact(lambda session: engine_registry.cordon(session, stranded, now))

    def _lease_changes(self, view: _LeaseView) -> LeaseChanges:
        kinds = (view.clusters, tuple(view.engines), (MAINTENANCE,))
        changes = [rebalance(self.name, names, view.holders, view.servers) for names in kinds]
        return LeaseChanges(
            tuple(name for change in changes for name in change.acquire),
            tuple(name for change in changes for name in change.release),
        )

    async def _release(self, names: Collection[str]) -> None:
        await self._drop(names)
        await self._release_rows(names)
        log.info("leases.released", leases=sorted(names)[:20])
        self._wakeup.notify(TOPIC)

    async def _drop(self, names: Collection[str]) -> None:
        """Stop using these leases: cancel the calls in progress and start no others."""
        self._leases.drop(names)
        self._acquired.difference_update(names)
        if engines := [self._engines[name] for name in names if name in self._engines]:
            await self._driver.stop_driving(engines)

    async def _release_rows(self, names: Collection[str]) -> None:
        async def transaction(session: WriteSession) -> None:
            now = await lease_store.lease_time(session, self._clock.now())
            for chunk in chunks(sorted(names)):
                await lease_store.release_all(session, chunk, self.name, now)

        await self._database.transact(transaction)

    async def _acquire(self, names: Collection[str]) -> None:
        """Acquire the leases that are free. Engines report their identity first."""
        engines = {name: self._engines[name] for name in names if name in self._engines}
        identities = {} if self._is_single_server else await self._identify(engines)
        unreachable = set() if self._is_single_server else engines.keys() - identities.keys()
        started_at = self._clock.monotonic()
        reachable = [name for name in names if name not in unreachable]
        epochs: dict[str, int] = {}
        for chunk in chunks(sorted(reachable)):
            epochs |= await self._acquire_rows(chunk, identities)
        if unreachable:
            await self._exclude(unreachable)
        if not epochs:
            return
        self._leases.acquired(epochs, self._trusted_until(started_at))
        self._acquired.update(epochs)
        log.info("leases.acquired", leases=sorted(epochs)[:20], count=len(epochs))
        self._driver.start_driving([engines[name] for name in epochs if name in engines])
        for topic in ("scheduler", "reconciler", "maintenance"):
            self._wakeup.notify(topic)

    async def _acquire_rows(self, names: Collection[str], identities: Mapping[str, str]) -> dict[str, int]:
        async def transaction(session: WriteSession) -> dict[str, int]:
            now = await lease_store.lease_time(session, self._clock.now())
            epochs = await lease_store.acquire_all(
                session, names, self.name, now, self._times.ttl_delta, force=self._is_single_server
            )
            acquired = [name for name in epochs if name in self._engines]
            await engine_registry.register(session, [self._engines[name] for name in acquired])
            await engine_registry.uncordon(session, acquired)
            mismatched = [
                name
                for name in acquired
                if name in identities
                and not await engine_registry.claim_identity(session, self._engines[name], identities[name])
            ]
            await lease_store.release_all(session, mismatched, self.name, now)
            return {name: epoch for name, epoch in epochs.items() if name not in mismatched}

        return await self._database.transact(transaction)

    async def _identify(self, engines: Mapping[str, EngineRef]) -> Mapping[str, str]:
        found = await self._driver.identify(list(engines.values()))
        identified = {name: found[engine] for name, engine in engines.items() if engine in found}
        self._identities.update(identified)
        return identified

    async def _exclude(self, names: Collection[str]) -> None:
        """Leave unreachable engines to other servers for a while, and cordon them until one drives them."""
        until = self._clock.monotonic() + EXCLUDE_SECONDS
        self._unreachable_until.update(dict.fromkeys(names, until))

        async def transaction(session: WriteSession) -> None:
            await engine_registry.register(session, [self._engines[name] for name in names])
            await engine_registry.cordon(session, names, self._clock.now())

        await self._database.transact(transaction)

    def _trusted_until(self, started_at: float) -> float:
        return math.inf if self._is_single_server else started_at + self._times.ttl
