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
from tests.support.docker_runtime import SLEEPS, lines, nothing_is_known, opened, spec
from tests.support.observing import end_of, look
from tests.support.own_engine import endpoint_of, own_engine
from tests.support.proxy import EngineProxy
from tests.support.wait import PROMPT, eventually

pytestmark = pytest.mark.docker


async def test_a_second_observation_costs_one_request(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        running = [spec(install, SLEEPS, number) for number in (1, 2, 3)]
        ended = spec(install, "exit 4", 4)
        for wanted in (*running, ended):
            await runtime.start(wanted)
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
        wanted = spec(install, SLEEPS)
        await runtime.start(wanted)
        changes = runtime.changes()
        assert await asyncio.wait_for(anext(changes), PROMPT) == wanted.instance
        await proxy.cut()
        await nothing_is_known(runtime, wanted)
        with pytest.raises(RuntimeUnavailable):
            await lines(runtime, wanted.instance)
        with contextlib.suppress(TimeoutError):
            while True:  # read the hints from before the cut; there are no new ones
                await asyncio.wait_for(anext(changes), 0.1)
        await proxy.mend()
        assert await asyncio.wait_for(anext(changes), PROMPT) == wanted.instance
        assert (await look(runtime, wanted.instance)).state is ObservedState.RUNNING
        await runtime.stop(wanted.instance, 3600)
        async with asyncio.timeout(PROMPT):
            async for name in changes:
                if (await look(runtime, name)).state is ObservedState.EXITED:
                    break


async def test_the_kill_waits_for_an_unreachable_engine(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        wanted = spec(install, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
        await runtime.start(wanted)
        await eventually(lambda: lines(runtime, wanted.instance))
        await runtime.stop(wanted.instance, 0.3)
        await proxy.cut()
        await asyncio.sleep(0.6)
        await proxy.mend()
        assert (await end_of(runtime, wanted.instance)).exit_code == 137


async def test_no_engine_at_all_is_unavailable(tmp_path: Path) -> None:
    async with opened(DockerRuntime("inst", f"unix://{tmp_path / 'no.sock'}")) as runtime:
        await nothing_is_known(runtime, spec("inst", "true"))
        with pytest.raises(RuntimeUnavailable, match=r"no\.sock"):
            await runtime.probe()


async def test_a_server_that_is_not_an_engine_is_unavailable() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"tcp://127.0.0.1:{server.server_port}"
        async with opened(DockerRuntime("inst", endpoint)) as runtime:
            await nothing_is_known(runtime, spec("inst", "true"))
        server.shutdown()


@pytest.mark.slow
async def test_an_engine_restart_ends_containers_and_nothing_else(install: str, engine_folder: Path) -> None:
    with own_engine(engine_folder) as start_engine:
        engine = start_engine()
        async with opened(DockerRuntime(install, endpoint_of(engine_folder))) as runtime:
            wanted = spec(install, SLEEPS)
            await runtime.start(wanted)
            engine.terminate()
            await asyncio.to_thread(engine.wait)
            await nothing_is_known(runtime, wanted)
            start_engine()
            seen = await look(runtime, wanted.instance)
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
            wanted, missing = spec(install, SLEEPS), spec(install, "", 2, image="hv-test/nowhere:1")
            await runtime.start(wanted)
            await eventually(lambda: lines(runtime, wanted.instance))
            await runtime.stop(wanted.instance, 3600)
            assert (await end_of(runtime, wanted.instance)).exit_code == 143
            with pytest.raises(LaunchFailed):
                await runtime.start(missing)
