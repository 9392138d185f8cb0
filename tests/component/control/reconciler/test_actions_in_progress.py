"""The reconciler leaves an attempt alone while an action for it is in progress.

The tests run in virtual time, on an engine with slow calls, so that every call can be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.spec import submit
from hypervisor.deployments.state import commands
from hypervisor.kernel.observation import Observation
from hypervisor.lifecycle.commands import Command
from hypervisor.runtimes.protocol import LaunchSpec
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment
from tests.simulation.faults import Faults
from tests.simulation.installation import INSTALL, Installation, Server
from tests.simulation.people import ADA
from tests.support import virtual_time
from tests.support.inline_sqlite import inline_sqlite

GRACE = 8
"""Seconds; shorter than the interval of full passes, so that only hints and ends of actions matter."""


class SlowEngine(SimulatedRuntime):
    """Delays each start and stop, and records the time of each call."""

    def __init__(self, installation: Installation, *, start: float, stop: float) -> None:
        super().__init__(None, INSTALL, installation.engine_clock)
        self._start, self._stop = start, stop
        self.calls: list[tuple[str, float]] = []

    async def start(self, spec: LaunchSpec) -> Observation:
        self.calls.append(("start", asyncio.get_running_loop().time()))
        await asyncio.sleep(self._start)
        return await super().start(spec)

    async def stop(self, instance: str, grace_seconds: float) -> None:
        self.calls.append(("stop", asyncio.get_running_loop().time()))
        await asyncio.sleep(self._stop)
        await super().stop(instance, grace_seconds)

    def call_times(self, what: str) -> list[float]:
        return [at for name, at in self.calls if name == what]


def test_a_stop_in_its_grace_period_and_a_slow_start_do_not_trigger_each_other() -> None:
    async def scenario(server: Server, engine: SlowEngine) -> None:
        stubborn = await _submit(server, **{"simulate/ignore-term": "true"})
        await asyncio.sleep(2)
        await _submit(server, **{"simulate/start-delay": str(GRACE)})
        await asyncio.sleep(0.05)
        await _stop(server, stubborn)
        await asyncio.sleep(1)
        call_count = len(engine.calls)
        await asyncio.sleep(GRACE / 2)
        assert engine.call_times("stop"), "the stop was never passed on"
        assert len(engine.call_times("start")) >= 2, "the second was never started"
        assert engine.calls[call_count:] == []

    _play(scenario, start=0.1, stop=0.0731)


def test_a_stop_requested_during_the_launch_follows_when_the_launch_is_over() -> None:
    async def scenario(server: Server, engine: SlowEngine) -> None:
        launched = await _submit(server)
        await asyncio.sleep(1)
        await _stop(server, launched)
        assert engine.call_times("stop") == []
        await asyncio.sleep(2)
        (started,) = engine.call_times("start")
        assert engine.call_times("stop")[0] - started < 2.1

    _play(scenario, start=2, stop=0)


def _play(scenario: Callable[[Server, SlowEngine], Awaitable[None]], *, start: float, stop: float) -> None:
    """Run a scenario on one server without faults; the engine's calls take `start` and `stop` seconds."""

    async def run() -> None:
        installation = Installation(Random(0), Faults(), Random(0))
        installation.engine = engine = SlowEngine(installation, start=start, stop=stop)
        server = Server(installation, None)
        try:
            await scenario(server, engine)
        finally:
            await server.clean_up()
            await installation.close()

    with inline_sqlite():
        virtual_time.run(asyncio.wait_for(run(), 60))


async def _submit(server: Server, **labels: str) -> int:
    fields: dict[str, Any] = {
        "name": "-".join(["work", *labels]).replace("/", "-"),
        "cluster_id": 1,
        "kind": "service",
        "required_cpu_cores": 1,
        "grace_period_seconds": GRACE,
        "labels": labels,
    }

    async def transaction(session: WriteSession) -> int:
        body = DeploymentCreate.model_validate(fields)
        submission = submit.Submission(ADA, [body], server.encryptor, server.clock.now())
        (outcome,) = await submit.submit(session, [submission])
        assert isinstance(outcome, submit.Submitted)
        return outcome.created[0].deployment.id

    deployment_id = await server.call(server.database.transact(transaction))
    server.wakeup.notify("scheduler")
    return deployment_id


async def _stop(server: Server, deployment_id: int) -> None:
    async def transaction(session: WriteSession) -> None:
        access = DeploymentAccess(Deployment(id=deployment_id, organization_id=1), ADA)
        await commands.apply_command(session, access, Command.STOP, now=server.clock.now())

    await server.call(server.database.transact(transaction))
    server.wakeup.notify("reconciler")
