"""Engines that are unreachable, restarted or missing: unreachable never counts as absent."""

from __future__ import annotations

import asyncio
import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import LaunchFailed, ObservedState, RuntimeUnavailable
from tests.support.docker_runtime import SLEEPS, check_unavailable, lines, opened, spec
from tests.support.observing import end_of, observation_of
from tests.support.own_engine import endpoint_of, own_engine
from tests.support.proxy import EngineProxy
from tests.support.wait import PROMPT, eventually

pytestmark = pytest.mark.docker


async def test_a_second_observation_costs_one_request(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        running = [spec(install, SLEEPS, number) for number in (1, 2, 3)]
        ended = spec(install, "exit 4", 4)
        for launch_spec in (*running, ended):
            await runtime.start(launch_spec)
        await end_of(runtime, ended.instance)
        first = await runtime.list_instances()
        proxy.requests.clear()
        assert await runtime.list_instances() == first
        assert await runtime.observe([one.instance for one in running]) == {
            one.instance: first[one.instance] for one in running
        }
        assert len(proxy.requests) == 2
        assert first[ended.instance].exit_code == 4


async def test_an_unreachable_engine_is_never_empty_and_hints_come_back(
    install: str, proxy: EngineProxy, tmp_path: Path
) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        launch_spec = spec(install, SLEEPS)
        await runtime.start(launch_spec)
        changes = runtime.changes()
        assert await asyncio.wait_for(anext(changes), PROMPT) == launch_spec.instance
        await proxy.cut()
        await check_unavailable(runtime, launch_spec)
        with pytest.raises(RuntimeUnavailable):
            await lines(runtime, launch_spec.instance)
        with contextlib.suppress(TimeoutError):
            while True:  # read the hints from before the cut; there are no new ones
                await asyncio.wait_for(anext(changes), 0.1)
        await proxy.mend()
        assert await asyncio.wait_for(anext(changes), PROMPT) == launch_spec.instance
        assert (await observation_of(runtime, launch_spec.instance)).state is ObservedState.RUNNING
        await runtime.stop(launch_spec.instance, 3600)
        async with asyncio.timeout(PROMPT):
            async for name in changes:
                if (await observation_of(runtime, name)).state is ObservedState.EXITED:
                    break


async def test_the_kill_waits_for_an_unreachable_engine(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        launch_spec = spec(install, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
        await runtime.start(launch_spec)
        await eventually(lambda: lines(runtime, launch_spec.instance))
        await runtime.stop(launch_spec.instance, 0.3)
        await proxy.cut()
        await asyncio.sleep(0.6)
        await proxy.mend()
        assert (await end_of(runtime, launch_spec.instance)).exit_code == 137


async def test_no_engine_at_all_is_unavailable(tmp_path: Path) -> None:
    async with opened(DockerRuntime("inst", f"unix://{tmp_path / 'no.sock'}")) as runtime:
        await check_unavailable(runtime, spec("inst", "true"))
        with pytest.raises(RuntimeUnavailable, match=r"no\.sock"):
            await runtime.probe()


async def test_a_server_that_is_not_an_engine_is_unavailable() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"tcp://127.0.0.1:{server.server_port}"
        async with opened(DockerRuntime("inst", endpoint)) as runtime:
            await check_unavailable(runtime, spec("inst", "true"))
        server.shutdown()


@pytest.mark.slow
async def test_an_engine_restart_ends_containers_and_nothing_else(install: str, engine_folder: Path) -> None:
    with own_engine(engine_folder) as start_engine:
        engine = start_engine()
        async with opened(DockerRuntime(install, endpoint_of(engine_folder))) as runtime:
            launch_spec = spec(install, SLEEPS)
            await runtime.start(launch_spec)
            engine.terminate()
            await asyncio.to_thread(engine.wait)
            await check_unavailable(runtime, launch_spec)
            start_engine()
            seen = await observation_of(runtime, launch_spec.instance)
            assert seen.state is ObservedState.EXITED
            assert seen.exit_code is not None
            second = spec(install, SLEEPS, 2)
            assert (await runtime.start(second)).state is ObservedState.RUNNING


@pytest.mark.slow
async def test_an_engine_without_an_init_runs_workloads_all_the_same(
    install: str, engine_folder: Path
) -> None:
    with own_engine(engine_folder, "--init-path", "/nowhere/docker-init") as start_engine:
        start_engine()
        async with opened(DockerRuntime(install, endpoint_of(engine_folder))) as runtime:
            launch_spec, missing = spec(install, SLEEPS), spec(install, "", 2, image="hv-test/nowhere:1")
            await runtime.start(launch_spec)
            await eventually(lambda: lines(runtime, launch_spec.instance))
            await runtime.stop(launch_spec.instance, 3600)
            assert (await end_of(runtime, launch_spec.instance)).exit_code == 143
            with pytest.raises(LaunchFailed):
                await runtime.start(missing)
