"""Writes the engines' observations, all that are queued in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import structlog

from hypervisor.control.leases.held import HeldLeases, engine_lease
from hypervisor.control.reconciler.apply_observations import Applied, Observed, apply_observations
from hypervisor.infra.observability.failures import Failures
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.randomness import Random
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.leases import lock_epochs

BATCH = 500
ERROR_PAUSE = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """An observation with its engine; `written` is set once it was committed (True) or dropped."""

    engine: EngineRef
    observed: Observed
    written: asyncio.Future[bool]


class ObservationWriter:
    """Applies observations in the order of arrival; `follow_up` gets the changes of each transaction."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        random: Random,
        leases: HeldLeases,
        follow_up: Callable[[Applied], None],
    ) -> None:
        self._database = database
        self._random = random
        self._clock = clock
        self._leases = leases
        self._follow_up = follow_up
        self._failures = Failures(log, "reconciler.apply_failed")
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue()

    async def record(self, engine: EngineRef, observed: Observed) -> bool:
        """Queue an observation and wait until it was applied or dropped; the attempt is busy meanwhile.

        Returns whether it was committed. It was not if the database failed or the engine's lease is lost.
        """
        pending = _Pending(engine, observed, asyncio.get_running_loop().create_future())
        await self._queue.put(pending)
        return await pending.written

    async def run(self) -> None:
        """Apply until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < BATCH:
                batch.append(self._queue.get_nowait())
            written = await self._apply(batch)
            for pending in batch:
                if not pending.written.done():
                    pending.written.set_result(pending.engine in written)

    async def _apply(self, batch: Sequence[_Pending]) -> Collection[EngineRef]:
        """Apply a batch in one transaction; the engines whose observations were committed."""
        now = self._clock.now()

        async def transaction(session: WriteSession) -> tuple[Applied, Collection[EngineRef]]:
            engines = await self._fenced(session, {pending.engine for pending in batch})
            observations = [pending.observed for pending in batch if pending.engine in engines]
            return await apply_observations(session, observations, now, self._random), engines

        try:
            reached("status_before_write")
            applied, engines = await self._database.transact(transaction)
            reached("status_after_write")
        except Exception as error:
            # Nothing is lost: a full pass observes the same again.
            self._failures.note(error)
            await asyncio.sleep(ERROR_PAUSE)
            return ()
        self._failures.over()
        self._follow_up(applied)
        return engines

    async def _fenced(self, session: WriteSession, engines: Collection[EngineRef]) -> Collection[EngineRef]:
        """The engines whose lease this server holds until the end of the transaction."""
        fences = {}
        for engine in engines:
            if (fence := self._leases.fence(engine_lease(engine))) is not None:
                fences[engine] = fence
        epochs = await lock_epochs(session, [fence.lease for fence in fences.values()])
        for engine, fence in list(fences.items()):
            if epochs.get(fence.lease) != fence.epoch:
                log.warning("reconciler.stale_epoch", lease=fence.lease, epoch=fence.epoch)
                self._leases.invalidate(fence.lease)
                del fences[engine]
        return fences.keys()
