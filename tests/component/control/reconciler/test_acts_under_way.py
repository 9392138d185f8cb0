"""What the reconciler does about an attempt while an act of its own on it is still under way.

In virtual time, on an engine whose calls take a while: between two moments every call can be counted.
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
from tests.simulation.faults import Faults
from tests.simulation.installation import INSTALL, Installation, Server
from tests.simulation.people import ADA
from tests.support import virtual_time
from tests.support.inline_sqlite import inline_sqlite

GRACE = 8
"""Seconds; shorter than the interval between full passes, so that nothing but a hint or an end counts."""


class SlowEngine(SimulatedRuntime):
    """Takes its time over each start and stop, and remembers when it was asked for which."""

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

    def asked(self, what: str) -> list[float]:
        return [at for name, at in self.calls if name == what]


def test_a_stop_in_its_grace_and_a_slow_beginning_do_not_wake_each_other() -> None:
    async def story(server: Server, engine: SlowEngine) -> None:
        stubborn = await _submit(server, **{"simulate/ignore-term": "true"})
        await asyncio.sleep(2)
        await _submit(server, **{"simulate/start-delay": str(GRACE)})
        await asyncio.sleep(0.05)
        await _stop(server, stubborn)
        await asyncio.sleep(1)
        before = len(engine.calls)
        await asyncio.sleep(GRACE / 2)
        assert engine.asked("stop"), "the stop was never passed on"
        assert len(engine.asked("start")) >= 2, "the second was never started"
        assert engine.calls[before:] == []

    _play(story, start=0.1, stop=0.0731)


def test_a_stop_that_is_asked_for_during_the_launch_is_passed_on_when_the_launch_is_over() -> None:
    async def story(server: Server, engine: SlowEngine) -> None:
        launched = await _submit(server)
        await asyncio.sleep(1)
        await _stop(server, launched)
        assert engine.asked("stop") == []
        await asyncio.sleep(2)
        (started,) = engine.asked("start")
        assert engine.asked("stop")[0] - started < 2.1

    _play(story, start=2, stop=0)


def _play(story: Callable[[Server, SlowEngine], Awaitable[None]], *, start: float, stop: float) -> None:
    """Tell a story of one server without faults, whose engine's calls last so many seconds."""

    async def told() -> None:
        installation = Installation(Random(0), Faults())
        installation.engine = engine = SlowEngine(installation, start=start, stop=stop)
        server = Server(installation, None)
        try:
            await story(server, engine)
        finally:
            await server.bury()
            await installation.close()

    with inline_sqlite():
        virtual_time.run(asyncio.wait_for(told(), 60))


async def _submit(server: Server, **labels: str) -> int:
    wanted: dict[str, Any] = {
        "name": "-".join(["work", *labels]).replace("/", "-"),
        "cluster_id": 1,
        "kind": "service",
        "required_cpu_cores": 1,
        "grace_period_seconds": GRACE,
        "labels": labels,
    }

    async def work(session: WriteSession) -> int:
        body = DeploymentCreate.model_validate(wanted)
        asked = submit.Submission(ADA, [body], server.encryptor, server.clock.now())
        (outcome,) = await submit.submit(session, [asked])
        assert isinstance(outcome, submit.Submitted)
        return outcome.made[0].deployment.id

    made = await server.call(server.database.transact(work))
    server.wakeup.notify("scheduler")
    return made


async def _stop(server: Server, deployment_id: int) -> None:
    async def work(session: WriteSession) -> None:
        access = DeploymentAccess(deployment_id, 1, ADA)
        await commands.apply_command(session, access, Command.STOP, now=server.clock.now())

    await server.call(server.database.transact(work))
    server.wakeup.notify("reconciler")
