"""The actions in progress: at most one task for each instance, grouped by engine."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Set
from typing import Any

import structlog

from hypervisor.control.leases.held import NotHeld
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.control.reconciler.live_attempts import LiveAttempt, StopRequests
from hypervisor.kernel.engine_ref import EngineRef

RECHECK_PAUSE = 1.0

log = structlog.get_logger(__name__)


class ActionTasks:
    """Runs actions as tasks. The reconciler leaves an instance alone while its action is in progress."""

    def __init__(self, engine_pool: EnginePool, hint: Callable[[Collection[str]], None]) -> None:
        """`hint` receives the instances to reconcile again after their action."""
        self._engine_pool = engine_pool
        self._hint = hint
        self._busy: StopRequests = {}
        """Instances with an action in progress, and the stop request that it started with."""
        self._recheck: set[str] = set()
        self._by_engine: dict[EngineRef, set[asyncio.Task[None]]] = defaultdict(set)

    @property
    def instances(self) -> Set[str]:
        """Instances with an action in progress."""
        return self._busy.keys()

    @property
    def all(self) -> list[asyncio.Task[None]]:
        return [task for tasks in self._by_engine.values() for task in tasks]

    def take(self, engine: EngineRef) -> Collection[asyncio.Task[None]]:
        """Remove and return the tasks of an engine."""
        return self._by_engine.pop(engine, set())

    def start(self, attempt: LiveAttempt, action: Coroutine[Any, Any, None]) -> None:
        """Run an action for the attempt as a task."""
        self._busy[attempt.instance] = attempt.desired.stop_requested_at
        with structlog.contextvars.bound_contextvars(deployment_id=attempt.deployment_id):
            task = asyncio.create_task(self._run(attempt, action))
        tasks = self._by_engine[attempt.engine]
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def note_changes(self, hinted: Collection[str], found: StopRequests) -> None:
        """Recheck busy instances after their action, if they were hinted or their stop request is new.

        Other instances in `found` are not rechecked: two attempts that stay in `found` for a while (a stop in
        its grace period, a slow start) would trigger each other all the time.
        """
        self._recheck |= {
            name
            for name, stop_requested_at in self._busy.items()
            if name in hinted or (name in found and found[name] != stop_requested_at)
        }

    async def _run(self, attempt: LiveAttempt, action: Coroutine[Any, Any, None]) -> None:
        instance, failed = attempt.instance, False
        try:
            await action
        except NotHeld as error:
            log.info("reconciler.lease_not_held", instance=instance, why=str(error))
        except Exception:
            log.exception("reconciler.action_failed", instance=instance)
            failed = True
        finally:
            del self._busy[instance]
            if instance in self._recheck:
                self._recheck.discard(instance)
                self._hint_again(instance, failed=failed or attempt.engine in self._engine_pool.unreachable)

    def _hint_again(self, instance: str, *, failed: bool) -> None:
        """Hint at once or after a pause; else an engine that reports each failed action causes a loop."""
        if failed:
            asyncio.get_running_loop().call_later(RECHECK_PAUSE, self._hint, [instance])
        else:
            self._hint([instance])
