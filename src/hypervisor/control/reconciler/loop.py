"""The reconciler: makes the engines match the committed attempts and stores what the engines report.

For each attempt: load, close the session, observe, `decide()`, act, apply guarded. Intent is committed before
a runtime is called, names are deterministic and starts adopt, so the next server adopts after a crash at any
point. One slow launch (an image pull) delays no other attempt: actions run as tasks, and observations are
applied in batches.

An engine has one driver at a time. The trust in its lease is checked before each call; observations are
applied only while the lease's epoch is unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime

import structlog

from hypervisor.control.leases.engine_registry import cordon, uncordon
from hypervisor.control.leases.held import HeldLeases, NotHeld, engine_lease
from hypervisor.control.reconciler.action_tasks import ActionTasks
from hypervisor.control.reconciler.actions import AttemptActions
from hypervisor.control.reconciler.apply_observations import Applied, Expired, Observed, Running
from hypervisor.control.reconciler.attempt_clock import AttemptClock
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.control.reconciler.gangs import late_gangs, stop_late_gangs
from hypervisor.control.reconciler.live_attempts import (
    LiveAttempt,
    StopRequests,
    all_live_instances,
    load_live,
    pending_instances,
)
from hypervisor.control.reconciler.observation_writer import ObservationWriter
from hypervisor.infra.observability.failures import Failures
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.wakeup import Listener, Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.observation import ABSENT, Observation
from hypervisor.kernel.randomness import Random
from hypervisor.lifecycle.decide import Expire, Finish, Launch, MarkRunning, RequestStop, Wait, decide
from hypervisor.runtimes.protocol import RuntimeUnavailable
from hypervisor.store.database import Database, WriteSession

TOPIC = "reconciler"
ERROR_PAUSE = 1.0
STOP_DRIVING_TIMEOUT = 5.0

log = structlog.get_logger(__name__)


class Reconciler:
    """Drives every live attempt on the engines of this server. Implements `EngineDriver`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        engine_pool: EnginePool,
        leases: HeldLeases,
        encryptor: Encryptor,
        checkpoint_env: CheckpointEnv,
        *,
        random: Random,
        interval: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`interval` is the time between full passes in seconds."""
        self._random = random
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._listener: Listener = wakeup.listen(TOPIC)
        self._engine_pool = engine_pool
        self._leases = leases
        self._interval = interval
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._failures = Failures(log, "reconciler.pass_failed")
        self._hinted: set[str] = set()
        self._attempt_clock = AttemptClock(clock)
        self._observation_writer = ObservationWriter(database, clock, random, leases, self._follow_up)
        self._actions = AttemptActions(
            database,
            clock,
            engine_pool,
            self._observation_writer,
            encryptor,
            checkpoint_env,
            self._telemetry,
        )
        self._tasks = ActionTasks(engine_pool, self.hint)
        self._watchers: dict[EngineRef, asyncio.Task[None]] = {}
        self._full_pass_at = float("-inf")
        self._published_cordons: set[str] = set()

    @property
    def unreachable(self) -> Collection[EngineRef]:
        return self._engine_pool.unreachable

    def cordon_reason(self, engine: EngineRef) -> str | None:
        return self._engine_pool.cordon_reason(engine)

    def hint(self, instances: Collection[str]) -> None:
        """Reconcile these instances now."""
        self._hinted.update(instances)
        self._listener.set()

    def known_identity(self, engine: EngineRef) -> str | None:
        return self._engine_pool.known_identity(engine)

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        return await self._engine_pool.identify(engines)

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        self._engine_pool.start_driving(engines)
        self._published_cordons.difference_update(map(engine_lease, engines))
        if engines:
            self._full_pass_at = float("-inf")

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        tasks = [task for engine in engines for task in self._tasks.take(engine)]
        tasks += [self._watchers.pop(engine) for engine in engines if engine in self._watchers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_DRIVING_TIMEOUT)
        await self._engine_pool.forget(engines)

    async def run(self) -> None:
        """Reconcile until cancelled; workloads keep running after that."""
        writer = asyncio.create_task(self._observation_writer.run(), name="observation-writer")
        try:
            while True:
                await self._listener.wait(await self._pass_safely())
        finally:
            tasks = [writer, *self._tasks.all, *self._watchers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_safely(self) -> float:
        """One pass; the time to wait after it, in seconds."""
        try:
            await self._pass()
        except Exception as error:
            self._failures.note(error)
            return ERROR_PAUSE
        self._telemetry.heartbeats.beat("reconciler")
        self._failures.over()
        return self._interval

    async def _pass(self) -> None:
        """Reconcile hinted instances and those with a pending start or stop; at intervals, all live ones."""
        hinted, self._hinted = self._hinted, set()
        full = self._clock.monotonic() - self._full_pass_at >= self._interval
        if full:
            self._full_pass_at = self._clock.monotonic()
            reachable_again = await self._engine_pool.retry_unreachable()
            await self._publish_cordons()
            if reachable_again:
                self._wakeup.notify("scheduler")
            await self._stop_late_gangs()
        async with self._database.read() as session:
            instances = await (all_live_instances if full else pending_instances)(session)
            found = self._on_driven_engines(instances)
            names = hinted | found.keys()
            if full:
                self._attempt_clock.retain(names)
            self._tasks.note_changes(hinted, found)
            attempts = await load_live(session, names - self._tasks.instances)
        attempts = [attempt for attempt in attempts if self._engine_pool.drives(attempt.engine)]
        if attempts:
            await self._reconcile(attempts)
            await self._publish_cordons()

    def _on_driven_engines(self, instances: Mapping[EngineRef, StopRequests]) -> StopRequests:
        """The instances on engines of this server; requests the leases of the other engines."""
        others = [engine for engine in instances if not self._engine_pool.drives(engine)]
        self._leases.request([engine_lease(engine) for engine in others])
        return {
            name: stop_requested_at
            for engine, requests in instances.items()
            if engine not in others
            for name, stop_requested_at in requests.items()
        }

    async def _publish_cordons(self) -> None:
        """Store which engines of this server accept no new attempts, for the schedulers of all servers."""
        driven = {engine_lease(engine) for engine in self._engine_pool.driven}
        cordoned = {engine_lease(engine) for engine in self._engine_pool.unreachable} & driven
        published = self._published_cordons & driven
        if cordoned == published:
            return
        now = self._clock.now()

        async def transaction(session: WriteSession) -> None:
            await cordon(session, cordoned - published, now)
            await uncordon(session, published - cordoned)

        await self._database.transact(transaction)
        self._published_cordons = cordoned

    async def _stop_late_gangs(self) -> None:
        now = self._clock.now()
        async with self._database.read() as session:
            late = await late_gangs(session, now)
        if late:
            stopping = await self._database.transact(
                lambda session: stop_late_gangs(session, late, now, self._random)
            )
            self._follow_up(Applied(stopping=stopping))

    async def _reconcile(self, attempts: list[LiveAttempt]) -> None:
        """Decide and act for each attempt. New ones start unobserved: `start` adopts an existing instance."""
        new = [attempt for attempt in attempts if _is_new(attempt)]
        started = [attempt for attempt in attempts if not _is_new(attempt)]
        for attempt in attempts:
            self._watch(attempt.engine)
        for attempt in new:
            self._dispatch(attempt, ABSENT)
        observations = await self._engine_pool.observe(started)
        for attempt in started:
            self._dispatch(attempt, observations.get(attempt.instance))

    def _dispatch(self, attempt: LiveAttempt, observation: Observation | None) -> None:
        now = self._attempt_clock.now(attempt.instance)
        ids = attempt.attempt_id, attempt.deployment_id
        match decide(attempt.desired, observation, now):
            case Launch():
                self._tasks.start(attempt, self._actions.launch(attempt))
            case RequestStop(grace_seconds):
                self._tasks.start(attempt, self._actions.stop(attempt, grace_seconds, self._clock.now()))
            case MarkRunning() if observation is not None:
                self._record(attempt, Running(*ids, observation))
            case Finish():
                self._tasks.start(attempt, self._actions.finish(attempt, observation))
            case Expire():
                self._record(attempt, Expired(*ids))
            case Wait(until) if until is not None:
                self._hint_later(attempt.instance, until, now)
            case _:
                pass

    def _record(self, attempt: LiveAttempt, observed: Observed) -> None:
        async def record() -> None:
            await self._observation_writer.record(attempt.engine, observed)

        self._tasks.start(attempt, record())

    def _follow_up(self, applied: Applied) -> None:
        if applied.stopping:
            self.hint(applied.stopping)
            self._wakeup.notify(TOPIC)
        if applied.ended:
            self._wakeup.notify("maintenance")
        self._wakeup.notify("scheduler")
        self._wakeup.notify("events")

    def _hint_later(self, instance: str, until: datetime, now: datetime) -> None:
        delay = (until - now).total_seconds()
        if delay <= self._interval:
            asyncio.get_running_loop().call_later(max(0.0, delay), self.hint, [instance])

    def _watch(self, engine: EngineRef) -> None:
        if engine not in self._watchers:
            self._watchers[engine] = asyncio.create_task(self._follow_changes(engine))

    async def _follow_changes(self, engine: EngineRef) -> None:
        """Turn the change notifications of the engine into hints, until cancelled."""
        while True:
            try:
                async for instance in self._engine_pool.open(engine).changes():
                    self.hint([instance])
            except NotHeld:
                # The trust may have ended without a loss of the lease: try again after the pause.
                log.debug("reconciler.watch_paused", runtime=engine.runtime, endpoint=engine.endpoint)
            except RuntimeUnavailable as error:
                self._engine_pool.mark_unreachable(engine, error)
            except Exception:
                log.exception("reconciler.watch_failed", runtime=engine.runtime, endpoint=engine.endpoint)
            await asyncio.sleep(ERROR_PAUSE)


def _is_new(attempt: LiveAttempt) -> bool:
    """Whether the attempt was never observed running and has no stop request."""
    return attempt.desired.started_at is None and attempt.desired.stop_requested_at is None
