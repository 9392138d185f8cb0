"""Containers that are started again, paused, renamed or changed from outside, at every point of their end.

The promise is checked in the engine, by the labels of its containers, and not only in the rows: at most one
container of a replica is live, and none of an attempt that has ended.
"""

from __future__ import annotations

import asyncio

import pytest

from hypervisor.kernel import failpoints
from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from hypervisor.store.tables import InstanceGc
from tests.support import docker
from tests.support.docker_runtime import SLEEPS
from tests.support.docker_site import DockerSite, watched
from tests.support.wait import eventually

pytestmark = pytest.mark.docker

ENDS = "until [ -e /tmp/end ]; do sleep 0.02; done; echo run; exit 3"
"""Ends once `/tmp/end` exists. The file survives a restart: a further run of the container ends at once."""
DEAF_AT_FIRST_AGAIN = "[ ! -e /tmp/again ] || { trap '' TERM; sleep 0.3; trap - TERM; }; touch /tmp/again; "
"""The second run is like an init that has no handler yet when the first signal arrives."""
ENDS_ONCE = "[ -e /tmp/again ] || { touch /tmp/again; sleep 0.5; exit 3; }; " + SLEEPS
"""Fails in its first run. Each further run of the same container lasts until it is stopped."""


async def test_a_container_that_is_started_at_each_end_never_runs_beside_a_retry(site: DockerSite) -> None:
    """As with tools that restart every container that has ended."""

    async def restart_each_ended() -> None:
        while True:
            for one in await asyncio.to_thread(site.containers, live=False):
                if one["State"] == "exited":
                    await asyncio.to_thread(site.act, one["Id"], "start", 304, 404, 409)
            await asyncio.sleep(0.01)

    async with site.server(), watched(site):
        restarting = asyncio.create_task(restart_each_ended())
        jobs = [
            await site.submit(ENDS_ONCE, restart_policy="on-failure", max_retries=3),
            await site.submit(ENDS_ONCE),
        ]

        async def settled() -> bool:
            states = [await site.world.state(job) for job in jobs]
            live = await asyncio.to_thread(site.containers, live=True)
            attempts = [one for job in jobs for one in (await site.world.attempts(job))[-1:]]
            steady = [one for one in attempts if one.finished_at or one.restarted_at]
            return len(steady) == len(jobs) and len(live) == states.count("RUNNING")

        await eventually(settled)
        restarting.cancel()
        await asyncio.gather(restarting, return_exceptions=True)


async def test_a_start_before_the_end_is_recorded_continues_the_attempt(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(ENDS_ONCE, ports=[8080])
        before = (await site.world.attempts(deployment))[0]
        site.proxy.hold(rf"GET \S+/containers/{instance}/json".encode())
        await eventually(lambda: _status(site, instance) == "exited")
        site.act(instance, "start")
        site.proxy.let_pass()
        await _restart_is_recorded(site, deployment, 1)
        (attempt,) = await site.world.attempts(deployment)
        assert attempt.started_at == before.started_at
        assert attempt.restarted_at is not None
        published = site.api.inspect(instance)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
        assert [binding["host_port"] for binding in attempt.ports or []] == [int(published)]
        assert await site.codes(deployment) == ["submitted", "placed", "running", "restarted_outside"]
        await _stops(site, deployment)


async def test_a_start_between_the_record_and_the_removal_continues_the_attempt(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(ENDS_ONCE)
        site.proxy.hold(rb"DELETE \S+/containers/")
        await eventually(lambda: any(one.startswith("DELETE") for one in site.proxy.requests))
        assert (await site.world.attempts(deployment))[0].end_observed is not None
        await site.world.check_invariants()
        site.act(instance, "start")
        site.proxy.let_pass()
        await _restart_is_recorded(site, deployment, 1)
        assert (await site.world.attempts(deployment))[0].end_observed is None
        await _stops(site, deployment)


async def test_a_stopped_container_that_is_started_again_is_stopped_again_at_once(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(DEAF_AT_FIRST_AGAIN + SLEEPS, grace_period_seconds=3600)
        site.proxy.hold(rb"DELETE \S+/containers/")
        await site.world.stop(deployment)
        await eventually(lambda: any(one.startswith("DELETE") for one in site.proxy.requests))
        site.act(instance, "start")
        site.proxy.let_pass()
        await site.world.reaches(deployment, "STOPPED")
        await eventually(lambda: not site.containers(live=False))


async def test_a_restart_of_a_running_container_leaves_one_instance_and_one_record(site: DockerSite) -> None:
    """The engine's stop and start may lie on both sides of an observation: either outcome is recorded."""
    async with site.server(), watched(site):
        deployment, instance = await site.running(SLEEPS, restart_policy="on-failure", max_retries=9)
        for _ in range(4):
            number = len(await site.world.attempts(deployment))
            restarts = (await site.codes(deployment)).count("restarted_outside")
            await asyncio.to_thread(site.act, instance, "restart?t=0", 404, 409, 500)

            async def recorded(number: int = number, restarts: int = restarts) -> bool:
                attempts, codes = await site.world.attempts(deployment), await site.codes(deployment)
                later = len(attempts) > number and attempts[-1].started_at is not None
                return later or codes.count("restarted_outside") > restarts

            await eventually(recorded)
            await site.world.reaches(deployment, "RUNNING")
            instance = (await site.world.attempts(deployment))[-1].instance
            await _is_the_only_one(site, instance)
        await _stops(site, deployment)


async def test_a_container_that_was_started_again_without_a_server_is_adopted(site: DockerSite) -> None:
    async with site.server():
        deployment, instance = await site.running(ENDS_ONCE)
    await eventually(lambda: _status(site, instance) == "exited")
    site.act(instance, "start")
    async with site.server(), watched(site):
        await _restart_is_recorded(site, deployment, 1)
        assert len(await site.world.attempts(deployment)) == 1
        await _stops(site, deployment)


@pytest.mark.parametrize("point", ["end_before_remove", "end_after_remove"])
async def test_an_end_that_was_recorded_is_not_lost_with_the_server(site: DockerSite, point: str) -> None:
    reached: list[str] = []

    def die_once(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            raise RuntimeError("the server dies here")

    async with site.server(), watched(site):
        deployment, instance = await site.running(ENDS)
        failpoints.install(die_once)
        try:
            site.run_in(instance, "touch", "/tmp/end")
            await site.world.reaches(deployment, "FAILED")
        finally:
            failpoints.install(None)
        assert reached
        (attempt,) = await site.world.attempts(deployment)
        assert (attempt.outcome, attempt.exit_code) == ("failed", 3)
        assert attempt.finished_at is not None
        assert attempt.end_observed is None
        await eventually(lambda: not site.containers(live=False))


async def test_a_container_that_is_paused_runs_and_can_be_stopped(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(SLEEPS)
        site.act(instance, "pause")
        await eventually(lambda: _status(site, instance) == "paused")
        site.act(instance, "unpause")
        site.act(instance, "pause")
        assert await site.world.state(deployment) == "RUNNING"
        await _stops(site, deployment)


async def test_a_restart_policy_from_outside_is_taken_back(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(ENDS)
        policy = {"RestartPolicy": {"Name": "always"}}
        site.api.json("POST", f"/containers/{instance}/update", policy)
        await eventually(lambda: _policy(site, instance) == "no")
        site.run_in(instance, "touch", "/tmp/end")
        await site.world.reaches(deployment, "FAILED")
        (attempt,) = await site.world.attempts(deployment)
        assert attempt.exit_code == 3


async def test_a_renamed_container_stays_the_instance(site: DockerSite) -> None:
    async with site.server(), watched(site):
        deployment, instance = await site.running(SLEEPS)
        site.act(instance, "rename?name=mine-now-" + site.world.install)
        await eventually(lambda: f"/{instance}" in [one["Names"][0] for one in site.containers(live=True)])
        assert await site.world.state(deployment) == "RUNNING"
        assert len(await site.world.attempts(deployment)) == 1
        await _stops(site, deployment)


async def test_what_runs_after_its_recorded_end_is_stopped_before_it_is_forgotten(site: DockerSite) -> None:
    """Such as a container of a version that freed the capacity before the removal."""
    runtime = DockerRuntime(site.world.install, pull_policy="never")
    name = str(InstanceName(site.world.install, 99, 1))
    await runtime.start(LaunchSpec(name, Resources(), image=docker.IMAGE, command=("/bin/sh", "-c", SLEEPS)))
    await runtime.close()
    async with site.world.database.write() as session:
        session.add(InstanceGc(instance=name, runtime="docker", created_at=site.world.clock.now()))
    async with site.server():
        await _holds_lease(site)

        async def forgotten() -> bool:
            async with site.world.database.read() as session:
                listed = await session.get(InstanceGc, name) is not None
            present = site.containers(live=False)
            assert listed or not present, "forgotten while its container exists"
            return not listed

        site.world.wakeup.notify("maintenance")
        await eventually(forgotten)


async def _holds_lease(site: DockerSite) -> None:
    """A deployment that has run: the server drives the engine."""
    deployment, _ = await site.running(SLEEPS)
    await _stops(site, deployment)


async def _restart_is_recorded(site: DockerSite, deployment: int, count: int) -> None:
    async def recorded() -> bool:
        return (await site.codes(deployment)).count("restarted_outside") == count

    await eventually(recorded)
    assert await site.world.state(deployment) == "RUNNING"


async def _is_the_only_one(site: DockerSite, instance: str) -> None:
    await eventually(lambda: _live_instances(site) == [instance])


async def _stops(site: DockerSite, deployment: int) -> None:
    await site.world.stop(deployment)
    await site.world.reaches(deployment, "STOPPED")
    assert not [one for one in site.containers(live=True) if f"-{deployment}-" in one["Names"][0]]


def _status(site: DockerSite, instance: str) -> str:
    return str(site.api.inspect(instance)["State"]["Status"])


def _policy(site: DockerSite, instance: str) -> str:
    return str(site.api.inspect(instance)["HostConfig"]["RestartPolicy"]["Name"])


def _live_instances(site: DockerSite) -> list[str]:
    return [one["Labels"]["hypervisor.instance"] for one in site.containers(live=True)]
