"""Takes, keeps and hands over the leases of this process: a share of the clusters and engines, fairly.

Each turn: renew when it is time (all leases and the own heartbeat in one transaction), look at who lives and
who holds what, give up what is another's share now, take what is ours. A server that dies loses everything at
the end of its leases; one that stops hands everything over at once.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.control.leases import engine_registry
from hypervisor.control.leases.balancing import LeaseChanges, rebalance
from hypervisor.control.leases.held import JANITOR, TOPIC, HeldLeases, cluster_lease, engine_lease
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.store import leases
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import Cluster, EngineState

REFUSE_SECONDS = 10.0
"""How long an engine that did not say who it is is left to others."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: how long a lease lasts, when it is renewed, how often to look for free ones."""

    ttl: float = 15.0
    renew: float = 10.0
    retry: float = 2.0

    @classmethod
    def of(cls, ttl: float) -> LeaseTimes:
        """The usual proportions for another length."""
        return cls(ttl, ttl * 2 / 3, min(2.0, ttl * 2 / 15))

    @property
    def lasts(self) -> timedelta:
        return timedelta(seconds=self.ttl)


class EngineDriver(Protocol):
    """Whoever drives the engines that are held."""

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        """Who each engine says it is; those that do not answer are missing."""
        ...

    def known_identity(self, engine: EngineRef) -> str | None:
        """Who the engine is, where that is known without asking it."""
        ...

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        """These are ours from now on."""
        ...

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        """Stop driving these; what runs on them goes on. Returns when nothing is under way any more."""
        ...


@dataclass(frozen=True, slots=True)
class _Look:
    """Who lives, who holds what, and what there is to hold."""

    servers: Mapping[str, Collection[str]]
    holders: Mapping[str, str]
    clusters: tuple[str, ...]
    engines: Mapping[str, EngineRef]
    states: Mapping[str, EngineState]


class LeaseManager:
    """One member, `name` in its leases. What it holds is in `holdings`, for the loops to ask."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        holdings: HeldLeases,
        driver: EngineDriver,
        *,
        default_engines: Collection[EngineRef] = (),
        times: LeaseTimes | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`default_engines` are looked after even where no node names them."""
        self.name = secrets.token_hex(8)
        self._host = f"{socket.gethostname()}:{os.getpid()}"
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._holdings = holdings
        self._driver = driver
        self._times = times or LeaseTimes()
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._engines: dict[str, EngineRef] = {engine_lease(engine): engine for engine in default_engines}
        self._identities: dict[str, str] = {}
        self._refused: frozenset[str] = frozenset()
        self._silent: dict[str, float] = {}
        self._taken: set[str] = set()
        self._renew_at = -math.inf

    @property
    def _alone(self) -> bool:
        """One server process on a SQLite file is ensured by its lock: an old lease is a dead one's."""
        return self._database.is_sqlite

    async def run(self) -> None:
        """Hold a fair share until cancelled; `hand_over` comes after that."""
        while True:
            await self._step_safely()
            pause = self._times.renew if self._alone else self._times.retry
            await self._holdings.listener.wait(pause)

    async def step(self) -> None:
        """One turn. Raises what the database raises; then nothing was taken."""
        # What a loop has come to doubt is let go here, before anybody can take it again.
        await self._forget(self._taken - self._holdings.names())
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
        look = await self._look()
        await self._close_stranded(look)
        moves = self._moves(look)
        if moves.release:
            await self._give_up(moves.release)
        if moves.acquire:
            await self._take(moves.acquire)
        self._holdings.observed([*look.clusters, *look.engines, JANITOR])

    async def hand_over(self) -> None:
        """Leave at once: others need not wait for the end of the leases. The loops must have ended."""
        self._holdings.drop(self._holdings.names())

        async def work(session: WriteSession) -> None:
            await leases.unregister(session, self.name, await leases.lease_time(session, self._clock.now()))

        await self._database.transact(work)
        self._wakeup.notify(TOPIC)

    async def _step_safely(self) -> None:
        try:
            await self.step()
            self._telemetry.heartbeats.beat("leases")
        except Exception as error:
            # A database that cannot be reached must not end the loop: trust runs out by itself.
            log.warning("leases.unreachable", error=str(error))
            await self._forget(self._holdings.overdue())

    async def _renew(self) -> None:
        reached("lease_before_renew")
        asked_at = self._clock.monotonic()
        names = self._holdings.names()

        async def work(session: WriteSession) -> set[str]:
            now = await leases.lease_time(session, self._clock.now())
            await leases.heartbeat(session, self.name, self._host, self._refused, now, self._times.lasts)
            kept: set[str] = set()
            for chunk in chunks(sorted(names)):
                kept |= await leases.renew_all(session, chunk, self.name, now, self._times.lasts)
            return kept

        kept = await self._database.transact(work)
        reached("lease_after_renew")
        self._holdings.renew(kept, self._trusted_until(asked_at))
        self._renew_at = asked_at + self._times.renew
        if lost := names - kept:
            log.warning("leases.lost", leases=sorted(lost)[:20])
            await self._forget(lost)

    async def _look(self) -> _Look:
        async with self._database.read() as session:
            clusters = tuple(cluster_lease(id_) for id_ in await session.scalars(select(Cluster.id)))
            states = await engine_registry.known_engines(session)
            found = await engine_registry.find_engines(session)
            found |= {EngineRef(state.runtime, state.endpoint) for state in states.values()}
            self._engines.update((engine_lease(engine), engine) for engine in found)
            if self._alone:
                mine = dict.fromkeys(self._holdings.names(), self.name)
                return _Look({self.name: ()}, mine, clusters, dict(self._engines), {})
            now = await leases.lease_time(session, self._clock.now())
            refused = await self._refuses(session, states)
            members = {**await leases.live_servers(session, now), self.name: refused}
            held = await leases.holders(session, now)
        self._refused, before = refused, self._refused
        if refused != before:
            # The others should hear of it before they leave something to us.
            self._renew_at = -math.inf
            self._holdings.listener.set()
        return _Look(members, self._as_we_know(held), clusters, dict(self._engines), states)

    def _as_we_know(self, held: Mapping[str, str]) -> dict[str, str]:
        """What we have lost trust in is to be taken anew, though the table may still say it is ours."""
        ours = self._holdings.names()
        return {name: holder for name, holder in held.items() if holder != self.name or name in ours}

    async def _refuses(self, session: AsyncSession, states: Mapping[str, EngineState]) -> frozenset[str]:
        """The engines that others must drive: something of ours lives on another one of that name."""
        now = self._clock.monotonic()
        self._silent = {name: until for name, until in self._silent.items() if until > now}
        refused = set(self._silent)
        for name, engine in self._engines.items():
            identity = self._driver.known_identity(engine) or self._identities.get(name)
            state = states.get(name)
            if state is None or identity is None or state.engine_identity in (None, identity):
                continue
            if await engine_registry.has_work(session, engine):
                refused.add(name)
        return frozenset(refused)

    async def _close_stranded(self, look: _Look) -> None:
        """Engines that every member must leave to others take nothing new until somebody can drive them."""
        stranded = [
            name
            for name, state in look.states.items()
            if state.cordoned_since is None
            and name not in look.holders
            and all(name in refused for refused in look.servers.values())
        ]
        if stranded:
            log.warning("engines.stranded", engines=sorted(stranded)[:20])
            now = self._clock.now()
            await self._database.transact(lambda session: engine_registry.cordon(session, stranded, now))

    def _moves(self, look: _Look) -> LeaseChanges:
        kinds = (look.clusters, tuple(look.engines), (JANITOR,))
        moves = [rebalance(self.name, names, look.holders, look.servers) for names in kinds]
        return LeaseChanges(
            tuple(name for each in moves for name in each.acquire),
            tuple(name for each in moves for name in each.release),
        )

    async def _give_up(self, names: Collection[str]) -> None:
        await self._forget(names)
        await self._release(names)
        log.info("leases.given_up", leases=sorted(names)[:20])
        self._wakeup.notify(TOPIC)

    async def _forget(self, names: Collection[str]) -> None:
        """These are not ours any more: nothing new is begun, and what is under way ends."""
        self._holdings.drop(names)
        self._taken.difference_update(names)
        if engines := [self._engines[name] for name in names if name in self._engines]:
            await self._driver.stop_driving(engines)

    async def _release(self, names: Collection[str]) -> None:
        async def work(session: WriteSession) -> None:
            now = await leases.lease_time(session, self._clock.now())
            for chunk in chunks(sorted(names)):
                await leases.release_all(session, chunk, self.name, now)

        await self._database.transact(work)

    async def _take(self, names: Collection[str]) -> None:
        """Take what is free by now. An engine is asked first who it is."""
        engines = {name: self._engines[name] for name in names if name in self._engines}
        identities = {} if self._alone else await self._identify(engines)
        silent = set() if self._alone else engines.keys() - identities.keys()
        asked_at = self._clock.monotonic()
        wanted = [name for name in names if name not in silent]
        epochs: dict[str, int] = {}
        for chunk in chunks(sorted(wanted)):
            epochs |= await self._acquire(chunk, identities)
        if silent:
            await self._leave_to_others(silent)
        if not epochs:
            return
        self._holdings.acquired(epochs, self._trusted_until(asked_at))
        self._taken.update(epochs)
        log.info("leases.taken", leases=sorted(epochs)[:20], count=len(epochs))
        self._driver.start_driving([engines[name] for name in epochs if name in engines])
        for topic in ("scheduler", "reconciler", "janitor"):
            self._wakeup.notify(topic)

    async def _acquire(self, names: Collection[str], identities: Mapping[str, str]) -> dict[str, int]:
        async def work(session: WriteSession) -> dict[str, int]:
            now = await leases.lease_time(session, self._clock.now())
            epochs = await leases.acquire_all(
                session, names, self.name, now, self._times.lasts, force=self._alone
            )
            taken = [name for name in epochs if name in self._engines]
            await engine_registry.register(session, [self._engines[name] for name in taken])
            await engine_registry.uncordon(session, taken)
            strange = [
                name
                for name in taken
                if name in identities
                and not await engine_registry.claim_identity(session, self._engines[name], identities[name])
            ]
            await leases.release_all(session, strange, self.name, now)
            return {name: epoch for name, epoch in epochs.items() if name not in strange}

        return await self._database.transact(work)

    async def _identify(self, engines: Mapping[str, EngineRef]) -> Mapping[str, str]:
        found = await self._driver.identify(list(engines.values()))
        said = {name: found[engine] for name, engine in engines.items() if engine in found}
        self._identities.update(said)
        return said

    async def _leave_to_others(self, names: Collection[str]) -> None:
        """Engines that do not answer: somebody else may reach them; nothing new is placed there meanwhile."""
        until = self._clock.monotonic() + REFUSE_SECONDS
        self._silent.update(dict.fromkeys(names, until))

        async def work(session: WriteSession) -> None:
            await engine_registry.register(session, [self._engines[name] for name in names])
            await engine_registry.cordon(session, names, self._clock.now())

        await self._database.transact(work)

    def _trusted_until(self, asked_at: float) -> float:
        return math.inf if self._alone else asked_at + self._times.ttl
