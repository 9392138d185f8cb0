"""Images and devices: present, missing, and pulled once."""

from __future__ import annotations

import asyncio

import pytest

from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import LaunchFailed, ObservedState
from tests.support import docker
from tests.support.docker import Api
from tests.support.docker_runtime import SLEEPS, opened, spec
from tests.support.registry import OneImageRegistry
from tests.support.wait import PROMPT, eventually

pytestmark = pytest.mark.docker


async def test_a_missing_image_fails_with_the_engines_message(runtime: DockerRuntime, install: str) -> None:
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


async def test_an_unreachable_registry_is_retryable(install: str) -> None:
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
    launch_spec = spec(install, "true", gpu_indices=(0,), gpu_milli=1000)
    with pytest.raises(LaunchFailed, match="could not select device driver") as refusal:
        await runtime.start(launch_spec)
    assert not refusal.value.retryable
    assert await runtime.list_instances() == {}


async def test_concurrent_starts_share_one_pull_and_delay_no_others(install: str, api: Api) -> None:
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
