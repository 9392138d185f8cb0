"""The container of an instance: limits, hardening, network, ports, and its end."""

from __future__ import annotations

import pytest

from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState
from tests.support import docker
from tests.support.docker import Api
from tests.support.docker_runtime import SLEEPS, lines, spec
from tests.support.observing import end_of
from tests.support.wait import eventually

pytestmark = pytest.mark.docker


async def test_the_container_sees_its_limits_in_its_own_cgroup(runtime: DockerRuntime, install: str) -> None:
    script = """
        cd /sys/fs/cgroup
        if [ -f memory.max ]; then cat memory.max cpu.max memory.swap.max pids.max
        else cat memory/memory.limit_in_bytes; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
             cat pids/pids.max
        fi"""
    launch_spec = spec(install, script, resources=Resources(cpu_milli=350, ram_mib=48))
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    memory, cpu, *rest = await lines(runtime, launch_spec.instance)
    assert int(memory) == 48 * 1024 * 1024
    quota, period = map(int, cpu.split())
    assert quota / period == pytest.approx(0.35)
    assert rest[-1] == "256"
    assert rest[:-1] in ([], ["0"])


async def test_the_container_is_hardened(runtime: DockerRuntime, install: str, api: Api) -> None:
    launch_spec = spec(
        install, "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; sleep 60", ports=(8080,)
    )
    await runtime.start(launch_spec)
    host = api.inspect(launch_spec.instance)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 256
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["Binds"]
    assert not api.inspect(launch_spec.instance)["Mounts"]
    assert host["Memory"] == host["MemorySwap"] == 64 * 1024 * 1024

    async def status_lines() -> list[str] | None:
        printed = await lines(runtime, launch_spec.instance)
        return printed if len(printed) == 3 else None

    status = dict(line.split(":\t") for line in await eventually(status_lines) or [])
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


async def test_the_network_is_the_installations_own_and_ports_are_on_loopback(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    launch_spec = spec(install, "exec httpd -f -p $PORT_8080", ports=(8080,))
    seen = await runtime.start(launch_spec)
    (binding,) = seen.ports
    assert (binding.port, binding.host) == (8080, "127.0.0.1")
    assert list(api.inspect(launch_spec.instance)["NetworkSettings"]["Networks"]) == [f"hv-{install}"]
    network = api.json("GET", f"/networks/hv-{install}")
    assert network["Labels"] == {"hypervisor.install": install}
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"


async def test_a_read_only_root_is_read_only_but_for_tmp(runtime: DockerRuntime, install: str) -> None:
    script = "touch /bin/x 2>/dev/null && echo root; touch /tmp/x && echo tmp"
    free, locked = spec(install, script, 1), spec(install, script, 2, read_only_root=True)
    for launch_spec, printed in ((free, ["root", "tmp"]), (locked, ["tmp"])):
        await runtime.start(launch_spec)
        await end_of(runtime, launch_spec.instance)
        assert await lines(runtime, launch_spec.instance) == printed


async def test_running_out_of_memory_is_reported_with_the_limit(runtime: DockerRuntime, install: str) -> None:
    launch_spec = spec(install, "x=a; while :; do x=$x$x; done", resources=Resources(1000, 32))
    await runtime.start(launch_spec)
    seen = await end_of(runtime, launch_spec.instance)
    assert seen.oom_killed
    assert seen.exit_code == 137
    assert seen.message == "killed: out of memory (limit 32 MiB)"


async def test_a_program_that_is_not_in_the_image_is_named(runtime: DockerRuntime, install: str) -> None:
    launch_spec = LaunchSpec(
        str(InstanceName(install, 1, 1)), Resources(), image=docker.IMAGE, command=("/nowhere",)
    )
    await runtime.start(launch_spec)
    seen = await end_of(runtime, launch_spec.instance)
    assert seen.exit_code == 127
    assert seen.message == "exec /nowhere failed: No such file or directory"


async def test_a_pruned_network_is_created_again(runtime: DockerRuntime, install: str, api: Api) -> None:
    first = spec(install, "true", 1)
    await runtime.start(first)
    await end_of(runtime, first.instance)
    await runtime.remove(first.instance)
    api.call("DELETE", f"/networks/hv-{install}")
    assert (await runtime.start(spec(install, SLEEPS, 2))).state is ObservedState.RUNNING
