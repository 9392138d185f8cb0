"""The calls to an engine for one attempt: launch and stop, with the outcome passed on to the writer."""

from __future__ import annotations

import asyncio
from datetime import datetime

from hypervisor.control.reconciler.apply_observations import Ended, EndObserved, Running
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.control.reconciler.live_attempts import LiveAttempt, launch_spec
from hypervisor.control.reconciler.metrics import measure_reconciled, measured_start
from hypervisor.control.reconciler.observation_writer import ObservationWriter
from hypervisor.deployments.spec.environment import decrypt_environment
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.runtimes.protocol import LaunchFailed, RuntimeUnavailable
from hypervisor.store.database import Database

MAX_CONCURRENT_LAUNCHES = 32
MAX_CONCURRENT_REMOVALS = 16
"""A removal first reads the log of the instance, so many at once would need much memory."""


class AttemptActions:
    """Launches and stops attempts. An engine that is unavailable is marked so; a later pass retries."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        engine_pool: EnginePool,
        observation_writer: ObservationWriter,
        encryptor: Encryptor,
        checkpoint_env: CheckpointEnv,
        telemetry: Telemetry,
    ) -> None:
        self._database = database
        self._clock = clock
        self._engine_pool = engine_pool
        self._observation_writer = observation_writer
        self._encryptor = encryptor
        self._checkpoint_env = checkpoint_env
        self._telemetry = telemetry
        self._launches = asyncio.Semaphore(MAX_CONCURRENT_LAUNCHES)
        self._removals = asyncio.Semaphore(MAX_CONCURRENT_REMOVALS)

    async def launch(self, attempt: LiveAttempt) -> None:
        """Start the instance, or adopt it, unless its engine is cordoned. Raises NotHeld."""
        try:
            reached("intent_after_commit")
            env = decrypt_environment(attempt.env, self._encryptor)
            async with self._launches:
                env |= await self._checkpoint_env.environment_for(self._database, attempt, self._clock.now())
                if await self._is_blocked(attempt):
                    return
                with measured_start(self._telemetry, attempt):
                    reached("runtime_before_create")
                    runtime = self._engine_pool.open(attempt.engine)
                    observation = await runtime.start(launch_spec(attempt, env))
                    reached("runtime_after_start_before_ack")
        except RuntimeUnavailable as error:
            self._engine_pool.mark_unreachable(attempt.engine, error)
            return
        except (LaunchFailed, DecryptionError) as error:
            retryable = isinstance(error, LaunchFailed) and error.retryable
            failed = Ended(attempt.attempt_id, attempt.deployment_id, None, str(error), retryable)
            await self._observation_writer.record(attempt.engine, failed)
            return
        self._engine_pool.mark_reachable(attempt.engine)
        measure_reconciled(self._telemetry, attempt, "start", attempt.created_at, self._clock.now())
        await self._record_started(attempt, observation)

    async def stop(self, attempt: LiveAttempt, grace_seconds: int, now: datetime) -> None:
        """Request the stop with the remaining part of the grace period. Raises NotHeld."""
        requested_at = attempt.desired.stop_requested_at or now
        remaining = min(max(0.0, grace_seconds - (now - requested_at).total_seconds()), grace_seconds)
        try:
            reached("stop_before_call")
            await self._engine_pool.open(attempt.engine).stop(attempt.instance, remaining)
            reached("stop_after_call")
        except RuntimeUnavailable as error:
            self._engine_pool.mark_unreachable(attempt.engine, error)
            return
        self._engine_pool.mark_reachable(attempt.engine)
        measure_reconciled(self._telemetry, attempt, "stop", requested_at, self._clock.now())

    async def finish(self, attempt: LiveAttempt, observation: Observation | None) -> None:
        """Record the end of the attempt, once its instance can never run again. Raises NotHeld.

        An instance that runs again when it is to be removed is left alone: its attempt continues.
        """
        try:
            if not await self._can_never_run(attempt, observation):
                return
        except RuntimeUnavailable as error:
            self._engine_pool.mark_unreachable(attempt.engine, error)
            return
        absent = observation is None or observation.state is ObservedState.ABSENT
        end = attempt.desired.end or observation if absent else observation
        await self._observation_writer.record(
            attempt.engine, Ended(attempt.attempt_id, attempt.deployment_id, end)
        )

    async def _can_never_run(self, attempt: LiveAttempt, observation: Observation | None) -> bool:
        """Whether the instance is absent or has ended finally; removes one that can be started again.

        The end is recorded before the removal: a server that dies in between has lost nothing.
        """
        if observation is None or observation.state is ObservedState.ABSENT:
            return True
        runtime = self._engine_pool.open(attempt.engine)
        if runtime.ends_are_final:
            return True
        if observation.state is ObservedState.EXITED and observation != attempt.desired.end:
            end = EndObserved(attempt.attempt_id, attempt.deployment_id, observation)
            if not await self._observation_writer.record(attempt.engine, end):
                return False
        async with self._removals:
            reached("end_before_remove")
            removed = await self._engine_pool.open(attempt.engine).remove(attempt.instance)
            reached("end_after_remove")
        return removed

    async def _is_blocked(self, attempt: LiveAttempt) -> bool:
        """Whether the engine is cordoned and has no such instance; an existing one is still adopted."""
        if self._engine_pool.cordon_reason(attempt.engine) is None:
            return False
        observations = await self._engine_pool.open(attempt.engine).observe([attempt.instance])
        return observations[attempt.instance].state is ObservedState.ABSENT

    async def _record_started(self, attempt: LiveAttempt, observation: Observation) -> None:
        if observation.state is ObservedState.EXITED:
            await self.finish(attempt, observation)
        elif observation.state is ObservedState.RUNNING:
            running = Running(attempt.attempt_id, attempt.deployment_id, observation)
            await self._observation_writer.record(attempt.engine, running)
