"""What only the Docker runtime does, on a real engine: limits, hardening, pulls, adoption, lost engines."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker import DockerRuntime, launch
from hypervisor.runtimes.docker.config import container_config, network_config
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeUnavailable,
)
from tests.support import docker
from tests.support.docker import Api
from tests.support.own_engine import endpoint_of, own_engine, short_folder
from tests.support.proxy import EngineProxy
from tests.support.registry import OneImageRegistry
from tests.support.wait import PROMPT, eventually

pytestmark = pytest.mark.docker

CREATOR_SECONDS = 60.0
"""For tests of what happens in time: a start that a busy machine draws out is no creator that has died."""

SLEEPS = "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def install() -> Iterator[str]:
    if reason := docker.why_no_docker():
        pytest.skip(reason)
    install = f"t{secrets.token_hex(4)}"
    yield install
    docker.clean_up(install)


@pytest.fixture
def api(install: str) -> Api:
    return Api(docker.endpoint())


@pytest.fixture
def engine_folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
async def runtime(install: str, tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(install, pull_policy="never", log_dir=tmp_path / "logs")
    yield runtime
    await runtime.close()


@pytest.fixture
async def proxy(install: str, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    if not docker.endpoint().startswith("unix://"):
        pytest.skip("the proxy stands before a Unix socket only")
    proxy = EngineProxy(tmp_path, docker.endpoint())
    await proxy.mend()
    yield proxy
    await proxy.cut()


def spec(install: str, script: str, number: int = 1, **fields: Any) -> LaunchSpec:
    fields = {"resources": Resources(200, 64), "image": docker.IMAGE, **fields}
    return LaunchSpec(str(InstanceName(install, number, 1)), command=("/bin/sh", "-c", script), **fields)


async def test_the_container_sees_its_limits_in_its_own_cgroup(runtime: DockerRuntime, install: str) -> None:
    script = """
        cd /sys/fs/cgroup
        if [ -f memory.max ]; then cat memory.max cpu.max memory.swap.max pids.max
        else cat memory/memory.limit_in_bytes; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
             cat pids/pids.max
        fi"""
    wanted = spec(install, script, resources=Resources(cpu_milli=350, ram_mib=48))
    await runtime.start(wanted)
    await end_of(runtime, wanted.instance)
    memory, cpu, *rest = await lines(runtime, wanted.instance)
    assert int(memory) == 48 * 1024 * 1024
    quota, period = map(int, cpu.split())
    assert quota / period == pytest.approx(0.35)
    assert rest[-1] == "256"
    assert rest[:-1] in ([], ["0"])


async def test_the_container_is_hardened(runtime: DockerRuntime, install: str, api: Api) -> None:
    wanted = spec(install, "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; sleep 60", ports=(8080,))
    await runtime.start(wanted)
    host = api.inspect(wanted.instance)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 256
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["Binds"]
    assert not api.inspect(wanted.instance)["Mounts"]
    assert host["Memory"] == host["MemorySwap"] == 64 * 1024 * 1024

    async def told() -> list[str] | None:
        said = await lines(runtime, wanted.instance)
        return said if len(said) == 3 else None

    status = dict(line.split(":\t") for line in await eventually(told) or [])
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


async def test_the_network_is_the_installations_own_and_ports_are_on_loopback(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    wanted = spec(install, "exec httpd -f -p $PORT_8080", ports=(8080,))
    seen = await runtime.start(wanted)
    (binding,) = seen.ports
    assert (binding.port, binding.host) == (8080, "127.0.0.1")
    assert list(api.inspect(wanted.instance)["NetworkSettings"]["Networks"]) == [f"hv-{install}"]
    network = api.json("GET", f"/networks/hv-{install}")
    assert network["Labels"] == {"hypervisor.install": install}
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"


async def test_a_read_only_root_is_read_only_but_for_tmp(runtime: DockerRuntime, install: str) -> None:
    script = "touch /bin/x 2>/dev/null && echo root; touch /tmp/x && echo tmp"
    free, locked = spec(install, script, 1), spec(install, script, 2, read_only_root=True)
    for wanted, said in ((free, ["root", "tmp"]), (locked, ["tmp"])):
        await runtime.start(wanted)
        await end_of(runtime, wanted.instance)
        assert await lines(runtime, wanted.instance) == said


async def test_running_out_of_memory_is_told_with_the_limit(runtime: DockerRuntime, install: str) -> None:
    wanted = spec(install, "x=a; while :; do x=$x$x; done", resources=Resources(1000, 32))
    await runtime.start(wanted)
    seen = await end_of(runtime, wanted.instance)
    assert seen.oom_killed
    assert seen.exit_code == 137
    assert seen.message == "killed: out of memory (limit 32 MiB)"


async def test_a_program_that_is_not_in_the_image_is_named(runtime: DockerRuntime, install: str) -> None:
    wanted = LaunchSpec(
        str(InstanceName(install, 1, 1)), Resources(), image=docker.IMAGE, command=("/nowhere",)
    )
    await runtime.start(wanted)
    seen = await end_of(runtime, wanted.instance)
    assert seen.exit_code == 127
    assert seen.message == "exec /nowhere failed: No such file or directory"


async def test_a_missing_image_is_told_in_the_engines_words(runtime: DockerRuntime, install: str) -> None:
    with pytest.raises(LaunchFailed, match="No such image: hv-test/nowhere:1") as refusal:
        await runtime.start(spec(install, "", image="hv-test/nowhere:1"))
    assert not refusal.value.retryable


async def test_an_image_that_the_registry_does_not_have_is_final(install: str) -> None:
    with OneImageRegistry(b"") as registry:
        missing = registry.image.replace("pulled:1", "other:1")
        async with opened(DockerRuntime(install)) as runtime:
            with pytest.raises(LaunchFailed, match="manifest") as refusal:
                await runtime.start(spec(install, "", image=missing))
    assert not refusal.value.retryable


async def test_a_registry_that_does_not_answer_may_be_tried_again(install: str) -> None:
    async with opened(DockerRuntime(install)) as runtime:
        with pytest.raises(LaunchFailed, match="connection refused") as refusal:
            await runtime.start(spec(install, "", image="127.0.0.1:1/model:1"))
        assert refusal.value.retryable
        assert await runtime.list_instances() == {}


@pytest.mark.parametrize("image", ["--privileged", "a b", "a\nb", "UPPER/case:1"])
async def test_a_bad_image_name_is_refused(runtime: DockerRuntime, install: str, image: str) -> None:
    with pytest.raises(LaunchFailed) as refusal:
        await runtime.start(spec(install, "", image=image))
    assert not refusal.value.retryable


async def test_a_gpu_on_an_engine_without_any_is_refused_and_leaves_nothing(
    runtime: DockerRuntime, install: str
) -> None:
    if (await runtime.probe()).details["gpu_runtime"] != "none":
        pytest.skip("this engine has a GPU runtime")
    wanted = spec(install, "true", gpu_indices=(0,), gpu_milli=1000)
    with pytest.raises(LaunchFailed, match="could not select device driver") as refusal:
        await runtime.start(wanted)
    assert not refusal.value.retryable
    assert await runtime.list_instances() == {}


async def test_waiting_starts_share_one_pull_and_hold_up_nobody(install: str, api: Api) -> None:
    busybox = docker.static_busybox()
    assert busybox is not None
    with OneImageRegistry(docker.root_file_system(busybox)) as registry:
        registry.gate.clear()
        async with opened(DockerRuntime(install)) as runtime:
            waiting = [
                asyncio.create_task(runtime.start(spec(install, SLEEPS, number, image=registry.image)))
                for number in (1, 2)
            ]
            await eventually(lambda: registry.pulls)
            other = await asyncio.wait_for(runtime.start(spec(install, SLEEPS, 3)), PROMPT)
            assert other.state is ObservedState.RUNNING
            assert not any(task.done() for task in waiting)
            registry.gate.set()
            seen = await asyncio.gather(*waiting)
            assert {one.state for one in seen} == {ObservedState.RUNNING}
        assert registry.pulls == 1
        docker.clean_up(install)
        api.call("DELETE", f"/images/{registry.image}?force=1", accept=(200, 404))


async def test_what_was_created_and_never_started_is_started_by_the_next_server(
    runtime: DockerRuntime, install: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", 0.5)
    wanted = spec(install, "echo once")
    api.json("POST", "/networks/create", network_config(install))
    api.json("POST", f"/containers/create?name={wanted.instance}", container_config(wanted, install))
    assert (await look(runtime, wanted.instance)).state is ObservedState.CREATED
    assert (await runtime.start(wanted)).state in (ObservedState.RUNNING, ObservedState.EXITED)
    await end_of(runtime, wanted.instance)
    assert (await runtime.start(wanted)).state is ObservedState.EXITED
    assert await lines(runtime, wanted.instance) == ["once"]


async def test_what_another_server_is_just_starting_is_left_to_it(
    install: str, api: Api, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", CREATOR_SECONDS)
    wanted = spec(install, "echo once")
    api.json("POST", "/networks/create", network_config(install))
    api.json("POST", f"/containers/create?name={wanted.instance}", container_config(wanted, install))
    look_at_it = f"/containers/{wanted.instance}/json"
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        adopting = asyncio.create_task(runtime.start(wanted))
        await eventually(lambda: sum(look_at_it in one for one in proxy.requests) >= 3)
        api.call("POST", f"/containers/{wanted.instance}/start")
        assert (await adopting).state in (ObservedState.RUNNING, ObservedState.EXITED)
        await end_of(runtime, wanted.instance)
        assert await lines(runtime, wanted.instance) == ["once"]


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
    wanted = spec(install, "echo once")
    async with (
        opened(DockerRuntime(install, proxy.endpoint)) as slow,
        opened(DockerRuntime(install)) as other,
    ):
        proxy.hold(rb"POST \S+/start ")
        starting = asyncio.create_task(slow.start(wanted))
        await eventually(lambda: any(request.endswith("/start") for request in proxy.requests))
        await other.start(wanted)
        assert (await end_of(other, wanted.instance)).exit_code == 0
        proxy.let_pass()
        with pytest.raises(RuntimeUnavailable, match="taken over"):
            await starting
        assert (await slow.start(wanted)).state is ObservedState.EXITED
        assert await lines(other, wanted.instance) == ["once"]


async def test_a_job_that_ran_while_its_start_was_taken_over_is_not_run_again(
    install: str, api: Api, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CREATOR_SECONDS", 0.2)
    wanted = spec(install, "exit 7")
    api.json("POST", "/networks/create", network_config(install))
    made = api.json("POST", f"/containers/create?name={wanted.instance}", container_config(wanted, install))
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        proxy.hold(rb"DELETE \S+/containers/")
        taking_over = asyncio.create_task(runtime.start(wanted))
        await eventually(lambda: any(request.startswith("DELETE ") for request in proxy.requests))
        api.call("POST", f"/containers/{made['Id']}/start")
        await eventually(lambda: api.inspect(made["Id"])["State"]["Status"] == "exited")
        proxy.let_pass()
        seen = await taking_over
        assert (seen.state, seen.exit_code) == (ObservedState.EXITED, 7)
        assert await look(runtime, wanted.instance) == ABSENT


async def test_a_container_of_somebody_else_is_neither_adopted_nor_touched(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    wanted = spec(install, SLEEPS)
    foreign = {"Image": docker.IMAGE, "Cmd": ["/bin/sleep", "60"], "Labels": {"hypervisor.install": "other"}}
    made = api.json("POST", f"/containers/create?name={wanted.instance}", foreign)
    try:
        with pytest.raises(LaunchFailed, match="somebody else"):
            await runtime.start(wanted)
        assert await look(runtime, wanted.instance) == ABSENT
        await runtime.remove(wanted.instance)
        assert api.inspect(wanted.instance)["Id"] == made["Id"]
    finally:
        api.call("DELETE", f"/containers/{made['Id']}?force=1")


async def test_a_network_that_was_pruned_is_made_again(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    first = spec(install, "true", 1)
    await runtime.start(first)
    await end_of(runtime, first.instance)
    await runtime.remove(first.instance)
    api.call("DELETE", f"/networks/hv-{install}")
    assert (await runtime.start(spec(install, SLEEPS, 2))).state is ObservedState.RUNNING


async def test_logs_of_both_streams_are_whole_lines_and_outlive_the_container(
    runtime: DockerRuntime, install: str
) -> None:
    script = r"printf 'half '; echo error >&2; echo line; printf 'bad \377 byte\n'; printf 'no newline'"
    wanted = spec(install, script)
    await runtime.start(wanted)
    await end_of(runtime, wanted.instance)
    seen = await lines(runtime, wanted.instance)
    assert sorted(seen) == sorted(["error", "half line", "bad � byte", "no newline"])
    await runtime.remove(wanted.instance)
    assert await look(runtime, wanted.instance) == ABSENT
    assert await lines(runtime, wanted.instance) == seen
    await runtime.purge_logs(wanted.instance)
    assert await lines(runtime, wanted.instance) == []


async def test_only_the_end_of_a_long_log_is_kept(
    runtime: DockerRuntime, install: str, tmp_path: Path
) -> None:
    wanted = spec(install, "yes 0123456789012345678901234567890123456789012345678901234567 | head -n 30000")
    await runtime.start(wanted)
    await end_of(runtime, wanted.instance)
    await runtime.remove(wanted.instance)
    (saved,) = (tmp_path / "logs").glob("*.log")
    assert 900_000 < saved.stat().st_size <= 1024 * 1024


async def test_looking_again_costs_one_request(install: str, proxy: EngineProxy) -> None:
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


async def test_a_lost_engine_is_never_nothing_and_hints_come_back(
    install: str, proxy: EngineProxy, tmp_path: Path
) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        changes = runtime.changes()
        wanted = spec(install, SLEEPS)
        await runtime.start(wanted)
        assert await asyncio.wait_for(anext(changes), PROMPT) == wanted.instance
        await proxy.cut()
        await nothing_is_known(runtime, wanted)
        with pytest.raises(RuntimeUnavailable):
            await lines(runtime, wanted.instance)
        with contextlib.suppress(TimeoutError):
            while True:  # hints of the time before the cut wait to be read, new ones cannot come
                await asyncio.wait_for(anext(changes), 0.1)
        await proxy.mend()
        assert await asyncio.wait_for(anext(changes), PROMPT) == wanted.instance
        assert (await look(runtime, wanted.instance)).state is ObservedState.RUNNING
        await runtime.stop(wanted.instance, 3600)
        async with asyncio.timeout(PROMPT):
            async for name in changes:
                if (await look(runtime, name)).state is ObservedState.EXITED:
                    break


async def test_a_followed_log_that_breaks_off_says_so(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        wanted = spec(install, SLEEPS)
        await runtime.start(wanted)
        async with aclosing(runtime.logs(wanted.instance, follow=True)) as followed:
            assert await asyncio.wait_for(anext(followed), PROMPT) == "ready"
            await proxy.cut()
            with pytest.raises(RuntimeUnavailable):
                await asyncio.wait_for(anext(followed), PROMPT)


async def test_the_kill_waits_for_an_engine_that_is_away(install: str, proxy: EngineProxy) -> None:
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


async def test_a_server_that_is_no_engine_is_not_believed() -> None:
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


# -- helpers -------------------------------------------------------------------------------------------------


async def nothing_is_known(runtime: DockerRuntime, wanted: LaunchSpec) -> None:
    """Every call says that it cannot know."""
    for call in (
        lambda: runtime.observe([wanted.instance]),
        lambda: runtime.observe([wanted.instance, "hv-other-1-1-0"]),
        lambda: runtime.list_instances(),
        lambda: runtime.start(wanted),
        lambda: runtime.stop(wanted.instance, 5),
        lambda: runtime.remove(wanted.instance),
    ):
        with pytest.raises(RuntimeUnavailable):
            await call()


@asynccontextmanager
async def opened(runtime: DockerRuntime) -> AsyncIterator[DockerRuntime]:
    try:
        yield runtime
    finally:
        await runtime.close()


async def look(runtime: DockerRuntime, name: str) -> Observation:
    return (await runtime.observe([name]))[name]


async def end_of(runtime: DockerRuntime, name: str) -> Observation:
    async def ended() -> Observation | None:
        seen = await look(runtime, name)
        return seen if seen.state is ObservedState.EXITED else None

    seen = await eventually(ended, what=f"the end of {name}")
    assert seen is not None
    return seen


async def lines(runtime: DockerRuntime, name: str) -> list[str]:
    return [line async for line in runtime.logs(name)]
