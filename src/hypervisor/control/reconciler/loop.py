"""The reconciler: makes engines do what was committed, and records what they say.

For each attempt: load, close the session, observe, `decide()`, act, apply guarded. Intent is committed
before a runtime is called, names are deterministic and starts adopt, so a crash anywhere is followed by
adoption. One slow launch (an image pull) holds up nobody else: acts are tasks, facts are applied in batches.

An engine has one driver at a time. Before each call the trust in its lease is asked for; what was learnt is
applied only while the lease's epoch stands.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Coroutine, Mapping
from datetime import datetime
from typing import Any

import structlog

from hypervisor.control.leases.engine_registry import cordon, uncordon
from hypervisor.control.leases.held import HeldLeases, NotHeld, engine_lease
from hypervisor.control.reconciler.apply_observations import Applied, Ended, Expired, Observed, Running
from hypervisor.control.reconciler.attempt_clock import AttemptClock
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.control.reconciler.gangs import give_up_late, late_gangs
from hypervisor.control.reconciler.live_attempts import (
    LiveAttempt,
    StopRequests,
    all_live_instances,
    instances_to_act_on,
    launch_spec,
    load_live,
)
from hypervisor.control.reconciler.metrics import measure_reconciled, measured_start
from hypervisor.control.reconciler.observation_writer import ObservationWriter
from hypervisor.deployments.spec.environment import decrypt_environment
from hypervisor.infra.observability.failures import Failures
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.infra.wakeup import Listener, Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.observation import ABSENT, Observation, ObservedState
from hypervisor.lifecycle.decide import Expire, Finish, Launch, MarkRunning, RequestStop, Wait, decide
from hypervisor.runtimes.protocol import LaunchFailed, RuntimeUnavailable
from hypervisor.store.database import Database, WriteSession

TOPIC = "reconciler"
LAUNCHES_AT_ONCE = 32
ERROR_PAUSE = 1.0
LET_GO_TIMEOUT = 5.0

log = structlog.get_logger(__name__)


class Reconciler:
    """Drives every live attempt on the engines that this process holds. Implements `holder.EngineDriver`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        engines: EnginePool,
        holdings: HeldLeases,
        encryptor: Encryptor,
        reporting: CheckpointEnv,
        *,
        interval: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._listener: Listener = wakeup.listen(TOPIC)
        self._engines = engines
        self._holdings = holdings
        self._encryptor = encryptor
        self._reporting = reporting
        self._interval = interval
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._failures = Failures(log, "reconciler.step_failed")
        self._hinted: set[str] = set()
        self._busy: StopRequests = {}
        """Instances with an act under way, and the stop request that it knows of."""
        self._again: set[str] = set()
        self._acts: dict[EngineRef, set[asyncio.Task[None]]] = defaultdict(set)
        self._watched: dict[EngineRef, asyncio.Task[None]] = {}
        self._steady_time = AttemptClock(clock)
        self._launches = asyncio.Semaphore(LAUNCHES_AT_ONCE)
        self._recorder = ObservationWriter(database, clock, holdings, self._follow_up)
        self._full_at = float("-inf")
        self._told_closed: set[str] = set()

    @property
    def unreachable(self) -> Collection[EngineRef]:
        return self._engines.unreachable

    def obstacle(self, engine: EngineRef) -> str | None:
        return self._engines.obstacle(engine)

    def hint(self, instances: Collection[str]) -> None:
        """These instances should be looked at now."""
        self._hinted.update(instances)
        self._listener.set()

    def known_identity(self, engine: EngineRef) -> str | None:
        return self._engines.known_identity(engine)

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        return await self._engines.identify(engines)

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        self._engines.start_driving(engines)
        self._told_closed.difference_update(map(engine_lease, engines))
        if engines:
            self._full_at = float("-inf")

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        under_way = [task for engine in engines for task in self._acts.pop(engine, ())]
        under_way += [self._watched.pop(engine) for engine in engines if engine in self._watched]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=LET_GO_TIMEOUT)
        await self._engines.forget(engines)

    async def run(self) -> None:
        """Reconcile until cancelled; what runs goes on running."""
        applier = asyncio.create_task(self._recorder.run(), name="reconciler-apply")
        try:
            while True:
                try:
                    await self._step()
                    self._telemetry.heartbeats.beat("reconciler")
                    self._failures.over()
                    pause = self._interval
                except Exception as error:
                    self._failures.note(error)
                    pause = ERROR_PAUSE
                await self._listener.wait(pause)
        finally:
            acts = [task for tasks in self._acts.values() for task in tasks]
            for task in (applier, *acts, *self._watched.values()):
                task.cancel()
            await asyncio.gather(applier, *acts, *self._watched.values(), return_exceptions=True)

    async def _step(self) -> None:
        """Look at what was hinted and at what is to be done by the database; at intervals, at everything."""
        hinted, self._hinted = self._hinted, set()
        full = self._clock.monotonic() - self._full_at >= self._interval
        if full:
            self._full_at = self._clock.monotonic()
            back = await self._engines.retry_unreachable()
            await self._tell_closed()
            if back:
                self._wakeup.notify("scheduler")
            await self._give_up_late_gangs()
        async with self._database.read() as session:
            found = self._ours(await (all_live_instances if full else instances_to_act_on)(session))
            names = hinted | found.keys()
            if full:
                self._steady_time.keep(names)
            self._again |= self._news_of_busy(hinted, found)
            work = await load_live(session, names - self._busy.keys())
        if work := [item for item in work if self._engines.drives(item.engine)]:
            await self._act_on(work)
            await self._tell_closed()

    def _news_of_busy(self, hinted: Collection[str], found: StopRequests) -> set[str]:
        """Those with an act under way that does not know all: the engine has spoken of them, or a stop was
        asked for since it began.

        Not all that are found: two attempts that are found until time has passed (a stop in its grace, a slow
        beginning) would have each other looked at for as long, each at the end of the other's act.
        """
        return {
            name
            for name, known in self._busy.items()
            if name in hinted or (name in found and found[name] != known)
        }

    def _ours(self, instances: Mapping[EngineRef, StopRequests]) -> StopRequests:
        """Those on engines that we drive; engines that nobody is known to drive are asked for."""
        others = [engine for engine in instances if not self._engines.drives(engine)]
        self._holdings.request([engine_lease(engine) for engine in others])
        return {
            name: stop_requested_at
            for engine, requests in instances.items()
            if engine not in others
            for name, stop_requested_at in requests.items()
        }

    async def _tell_closed(self) -> None:
        """Let whoever schedules know which of our engines take nothing new."""
        ours = {engine_lease(engine): engine for engine in self._engines.driven}
        closed = {engine_lease(engine) for engine in self._engines.unreachable} & ours.keys()
        before = self._told_closed & ours.keys()
        if closed == before:
            return
        now = self._clock.now()

        async def work(session: WriteSession) -> None:
            await cordon(session, closed - before, now)
            await uncordon(session, before - closed)

        await self._database.transact(work)
        self._told_closed = closed

    async def _give_up_late_gangs(self) -> None:
        now = self._clock.now()
        async with self._database.read() as session:
            late = await late_gangs(session, now)
        if late:
            stopping = await self._database.transact(lambda session: give_up_late(session, late, now))
            self._follow_up(Applied(stopping=stopping))

    async def _act_on(self, work: list[LiveAttempt]) -> None:
        # What has never been seen running is started without a look: `start` adopts what is there.
        fresh = [w for w in work if w.desired.started_at is None and w.desired.stop_requested_at is None]
        known = [
            w for w in work if w.desired.started_at is not None or w.desired.stop_requested_at is not None
        ]
        for item in work:
            self._watch(item.engine)
        for item in fresh:
            self._take_up(item, ABSENT)
        seen = await self._engines.observe(known)
        for item in known:
            self._take_up(item, seen.get(item.instance))

    def _take_up(self, work: LiveAttempt, observed: Observation | None) -> None:
        now = self._steady_time.now(work.instance)
        match decide(work.desired, observed, now):
            case Launch():
                self._spawn(work, self._launch(work))
            case RequestStop(grace_seconds):
                self._spawn(work, self._stop(work, grace_seconds, self._clock.now()))
            case MarkRunning() if observed is not None:
                self._report(work, Running(work.attempt_id, work.deployment_id, observed))
            case Finish():
                self._report(work, Ended(work.attempt_id, work.deployment_id, observed))
            case Expire():
                self._report(work, Expired(work.attempt_id, work.deployment_id))
            case Wait(until) if until is not None:
                self._look_again(work.instance, until, now)
            case _:
                pass

    async def _launch(self, work: LiveAttempt) -> None:
        try:
            reached("intent_after_commit")
            env = decrypt_environment(work.env, self._encryptor)
            async with self._launches:
                env |= await self._reporting.environment_for(self._database, work, self._clock.now())
                if await self._must_wait(work):
                    return
                with measured_start(self._telemetry, work):
                    reached("runtime_before_create")
                    seen = await self._engines.open(work.engine).start(launch_spec(work, env))
                    reached("runtime_after_start_before_ack")
        except RuntimeUnavailable as error:
            self._engines.failed(work.engine, error)
            return
        except (LaunchFailed, DecryptionError) as error:
            retryable = isinstance(error, LaunchFailed) and error.retryable
            failed = Ended(work.attempt_id, work.deployment_id, None, str(error), retryable)
            await self._recorder.record(work.engine, failed)
            return
        self._engines.answered(work.engine)
        measure_reconciled(self._telemetry, work, "start", work.created_at, self._clock.now())
        if seen.state is ObservedState.EXITED:
            await self._recorder.record(work.engine, Ended(work.attempt_id, work.deployment_id, seen))
        elif seen.state is ObservedState.RUNNING:
            await self._recorder.record(work.engine, Running(work.attempt_id, work.deployment_id, seen))

    async def _must_wait(self, work: LiveAttempt) -> bool:
        """Whether the engine takes nothing new just now; what has begun there already is still adopted."""
        if self._engines.obstacle(work.engine) is None:
            return False
        seen = await self._engines.open(work.engine).observe([work.instance])
        return seen[work.instance].state is ObservedState.ABSENT

    async def _stop(self, work: LiveAttempt, grace_seconds: int, now: datetime) -> None:
        """Pass the stop on with what is left of the grace period."""
        asked = work.desired.stop_requested_at or now
        left = min(max(0.0, grace_seconds - (now - asked).total_seconds()), grace_seconds)
        try:
            reached("stop_before_call")
            await self._engines.open(work.engine).stop(work.instance, left)
            reached("stop_after_call")
        except RuntimeUnavailable as error:
            self._engines.failed(work.engine, error)
            return
        self._engines.answered(work.engine)
        measure_reconciled(self._telemetry, work, "stop", asked, self._clock.now())

    def _report(self, work: LiveAttempt, fact: Observed) -> None:
        self._spawn(work, self._recorder.record(work.engine, fact))

    def _follow_up(self, applied: Applied) -> None:
        if applied.stopping:
            self.hint(applied.stopping)
            self._wakeup.notify(TOPIC)
        if applied.ended:
            self._wakeup.notify("janitor")
        self._wakeup.notify("scheduler")
        self._wakeup.notify("events")

    def _spawn(self, work: LiveAttempt, act: Coroutine[Any, Any, None]) -> None:
        """Run an act as a task; the instance is left alone until it is done."""
        self._busy[work.instance] = work.desired.stop_requested_at
        with structlog.contextvars.bound_contextvars(deployment_id=work.deployment_id):
            task = asyncio.create_task(self._guarded(work, act))
        acts = self._acts[work.engine]
        acts.add(task)
        task.add_done_callback(acts.discard)

    async def _guarded(self, work: LiveAttempt, act: Coroutine[Any, Any, None]) -> None:
        instance, failed = work.instance, False
        try:
            await act
        except NotHeld as error:
            log.info("reconciler.left", instance=instance, why=str(error))
        except Exception:
            log.exception("reconciler.act_failed", instance=instance)
            failed = True
        finally:
            del self._busy[instance]
            if instance in self._again:
                self._again.discard(instance)
                self._hint_again(work, in_vain=failed or work.engine in self._engines.unreachable)

    def _hint_again(self, work: LiveAttempt, *, in_vain: bool) -> None:
        """At once, or soon: an act in vain of which the engine speaks each time would go on for ever."""
        if in_vain:
            asyncio.get_running_loop().call_later(ERROR_PAUSE, self.hint, [work.instance])
        else:
            self.hint([work.instance])

    def _look_again(self, instance: str, until: datetime, now: datetime) -> None:
        delay = (until - now).total_seconds()
        if delay <= self._interval:
            asyncio.get_running_loop().call_later(max(0.0, delay), self.hint, [instance])

    def _watch(self, engine: EngineRef) -> None:
        if engine not in self._watched:
            self._watched[engine] = asyncio.create_task(self._follow_changes(engine))

    async def _follow_changes(self, engine: EngineRef) -> None:
        """Turn the engine's hints into ours, until it is let go."""
        while True:
            try:
                async for instance in self._engines.open(engine).changes():
                    self.hint([instance])
            except NotHeld:
                # The lease may have run out without being lost: work on the engine is asked for again.
                log.debug("reconciler.watch_waits", runtime=engine.runtime, endpoint=engine.endpoint)
            except RuntimeUnavailable as error:
                self._engines.failed(engine, error)
            except Exception:
                log.exception("reconciler.watch_failed", runtime=engine.runtime, endpoint=engine.endpoint)
            await asyncio.sleep(ERROR_PAUSE)
