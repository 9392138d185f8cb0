"""Writes down what was learnt from engines, whatever has gathered in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from hypervisor.control.leases.held import HeldLeases, engine_lease
from hypervisor.control.reconciler.apply_observations import Applied, Observed, apply_observations
from hypervisor.infra.observability.failures import Failures
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.leases import lock_epochs

BATCH = 500
ERROR_PAUSE = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A fact with the engine that it is from; `applied` is set when it has been dealt with."""

    engine: EngineRef
    fact: Observed
    applied: asyncio.Future[None]


class ObservationWriter:
    """Applies facts in the order in which they come; `follow_up` is told what a transaction has changed."""

    def __init__(
        self, database: Database, clock: Clock, holdings: HeldLeases, follow_up: Callable[[Applied], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._holdings = holdings
        self._follow_up = follow_up
        self._failures = Failures(log, "reconciler.apply_failed")
        self._learnt: asyncio.Queue[_Pending] = asyncio.Queue()

    async def record(self, engine: EngineRef, fact: Observed) -> None:
        """Queue a fact and wait until it was applied, or dropped: the attempt stays busy so long."""
        learnt = _Pending(engine, fact, asyncio.get_running_loop().create_future())
        await self._learnt.put(learnt)
        await learnt.applied

    async def run(self) -> None:
        """Apply until cancelled."""
        while True:
            batch = [await self._learnt.get()]
            while not self._learnt.empty() and len(batch) < BATCH:
                batch.append(self._learnt.get_nowait())
            await self._apply(batch)
            for learnt in batch:
                if not learnt.applied.done():
                    learnt.applied.set_result(None)

    async def _apply(self, batch: Sequence[_Pending]) -> None:
        now = self._clock.now()

        async def work(session: WriteSession) -> Applied:
            return await apply_observations(session, await self._still_ours(session, batch), now)

        try:
            reached("status_before_write")
            applied = await self._database.transact(work)
            reached("status_after_write")
        except Exception as error:
            # Nothing is lost: a full pass finds the same facts again.
            self._failures.note(error)
            await asyncio.sleep(ERROR_PAUSE)
            return
        self._failures.over()
        self._follow_up(applied)

    async def _still_ours(self, session: WriteSession, batch: Sequence[_Pending]) -> list[Observed]:
        """The facts from engines whose lease is ours until the end of this transaction."""
        fences = {}
        for engine in {learnt.engine for learnt in batch}:
            if (fence := self._holdings.fence(engine_lease(engine))) is not None:
                fences[engine] = fence
        epochs = await lock_epochs(session, [fence.lease for fence in fences.values()])
        for engine, fence in list(fences.items()):
            if epochs.get(fence.lease) != fence.epoch:
                log.warning("reconciler.stale", lease=fence.lease, epoch=fence.epoch)
                self._holdings.invalidate(fence.lease)
                del fences[engine]
        return [learnt.fact for learnt in batch if learnt.engine in fences]
