"""Two servers on one engine: adoption of containers, and no container runs twice."""

from __future__ import annotations

import asyncio

import pytest

from hypervisor.runtimes.docker import launch
from hypervisor.runtimes.docker.config import container_config, network_config
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import ABSENT, LaunchFailed, ObservedState, RuntimeUnavailable
from tests.support import docker
from tests.support.docker import Api
from tests.support.docker_runtime import CREATOR_SECONDS, SLEEPS, lines, opened, spec
from tests.support.observing import end_of, observation_of
from tests.support.proxy import EngineProxy
from tests.support.wait import PROMPT, eventually

pytestmark = pytest.mark.docker


async def test_a_created_container_is_started_by_the_next_server(
    runtime: DockerRuntime, install: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", 0.5)
    launch_spec = spec(install, "echo once")
    api.json("POST", "/networks/create", network_config(install))
    api.json(
        "POST", f"/containers/create?name={launch_spec.instance}", container_config(launch_spec, install)
    )
    assert (await observation_of(runtime, launch_spec.instance)).state is ObservedState.CREATED
    assert (await runtime.start(launch_spec)).state in (ObservedState.RUNNING, ObservedState.EXITED)
    await end_of(runtime, launch_spec.instance)
    assert (await runtime.start(launch_spec)).state is ObservedState.EXITED
    assert await lines(runtime, launch_spec.instance) == ["once"]


async def test_a_stop_removes_a_container_whose_creator_has_died(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    launch_spec = spec(install, "echo never")
    api.json("POST", "/networks/create", network_config(install))
    api.json(
        "POST", f"/containers/create?name={launch_spec.instance}", container_config(launch_spec, install)
    )
    await runtime.stop(launch_spec.instance, 3600)
    assert await observation_of(runtime, launch_spec.instance) == ABSENT


async def test_a_start_in_progress_is_left_to_its_server(
    install: str, api: Api, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", CREATOR_SECONDS)
    launch_spec = spec(install, "echo once")
    api.json("POST", "/networks/create", network_config(install))
    api.json(
        "POST", f"/containers/create?name={launch_spec.instance}", container_config(launch_spec, install)
    )
    inspect_call = f"/containers/{launch_spec.instance}/json"
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        adopting = asyncio.create_task(runtime.start(launch_spec))
        await eventually(lambda: sum(inspect_call in one for one in proxy.requests) >= 3)
        api.call("POST", f"/containers/{launch_spec.instance}/start")
        assert (await adopting).state in (ObservedState.RUNNING, ObservedState.EXITED)
        await end_of(runtime, launch_spec.instance)
        assert await lines(runtime, launch_spec.instance) == ["once"]


async def test_two_servers_never_run_a_short_job_twice(
    install: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", CREATOR_SECONDS)
    async with opened(DockerRuntime(install)) as one, opened(DockerRuntime(install)) as other:
        jobs = [spec(install, "echo once", number) for number in range(5)]
        for job in jobs:
            await asyncio.gather(one.start(job), other.start(job))
        for job in jobs:
            await end_of(one, job.instance)
            assert await lines(one, job.instance) == ["once"]
    networks = [network["Name"] for network in api.json("GET", "/networks")]
    assert networks.count(f"hv-{install}") == 1


async def test_a_start_that_arrives_late_does_not_run_a_job_again(
    install: str, api: Api, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", 0.2)
    launch_spec = spec(install, "echo once")
    async with (
        opened(DockerRuntime(install, proxy.endpoint)) as slow,
        opened(DockerRuntime(install)) as other,
    ):
        proxy.hold(rb"POST \S+/start ")
        starting = asyncio.create_task(slow.start(launch_spec))
        await eventually(lambda: any(request.endswith("/start") for request in proxy.requests))
        await other.start(launch_spec)
        assert (await end_of(other, launch_spec.instance)).exit_code == 0
        proxy.let_pass()
        with pytest.raises(RuntimeUnavailable, match="taken over"):
            await starting
        assert (await slow.start(launch_spec)).state is ObservedState.EXITED
        assert await lines(other, launch_spec.instance) == ["once"]


async def test_a_job_that_ran_while_its_start_was_taken_over_is_not_run_again(
    install: str, api: Api, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", 0.2)
    launch_spec = spec(install, "exit 7")
    api.json("POST", "/networks/create", network_config(install))
    created = api.json(
        "POST", f"/containers/create?name={launch_spec.instance}", container_config(launch_spec, install)
    )
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        proxy.hold(rb"DELETE \S+/containers/")
        taking_over = asyncio.create_task(runtime.start(launch_spec))
        await eventually(lambda: any(request.startswith("DELETE ") for request in proxy.requests))
        api.call("POST", f"/containers/{created['Id']}/start")
        await eventually(lambda: api.inspect(created["Id"])["State"]["Status"] == "exited")
        proxy.let_pass()
        seen = await taking_over
        assert (seen.state, seen.exit_code) == (ObservedState.EXITED, 7)
        assert await observation_of(runtime, launch_spec.instance) == ABSENT


async def test_a_container_of_another_installation_is_neither_adopted_nor_touched(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    launch_spec = spec(install, SLEEPS)
    foreign = {"Image": docker.IMAGE, "Cmd": ["/bin/sleep", "60"], "Labels": {"hypervisor.install": "other"}}
    created = api.json("POST", f"/containers/create?name={launch_spec.instance}", foreign)
    try:
        with pytest.raises(LaunchFailed, match="another installation"):
            await runtime.start(launch_spec)
        assert await observation_of(runtime, launch_spec.instance) == ABSENT
        await runtime.remove(launch_spec.instance)
        assert api.inspect(launch_spec.instance)["Id"] == created["Id"]
    finally:
        api.call("DELETE", f"/containers/{created['Id']}?force=1")


async def test_starts_of_other_servers_are_hinted_and_own_starts_are_not(
    install: str, proxy: EngineProxy
) -> None:
    first, own, last = (spec(install, SLEEPS, number) for number in (1, 2, 3))
    hinted: set[str] = set()

    async def wait_for_hint(name: str) -> None:
        async with asyncio.timeout(PROMPT):
            while name not in hinted:
                hinted.add(await anext(changes))

    async with (
        opened(DockerRuntime(install, proxy.endpoint)) as runtime,
        opened(DockerRuntime(install)) as other,
    ):
        changes = runtime.changes()
        await other.start(first)
        await wait_for_hint(first.instance)
        proxy.hold(rb"GET \S+/containers/hv-")  # the last call of a start
        starting = asyncio.create_task(runtime.start(own))
        await eventually(lambda: is_running(other, own.instance))
        await other.start(last)
        await wait_for_hint(last.instance)
        proxy.let_pass()
        await starting
    assert own.instance not in hinted


async def is_running(runtime: DockerRuntime, name: str) -> bool:
    return (await observation_of(runtime, name)).state is ObservedState.RUNNING
