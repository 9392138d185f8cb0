"""Logs of containers: whole lines, bounded, and archived when the container is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import ABSENT, RuntimeUnavailable
from tests.support.docker_runtime import SLEEPS, lines, opened, spec
from tests.support.observing import end_of, observation_of
from tests.support.proxy import EngineProxy
from tests.support.wait import PROMPT

pytestmark = pytest.mark.docker


async def test_logs_of_both_streams_are_whole_lines_and_outlive_the_container(
    runtime: DockerRuntime, install: str
) -> None:
    script = r"printf 'half '; echo error >&2; echo line; printf 'bad \377 byte\n'; printf 'no newline'"
    launch_spec = spec(install, script)
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    seen = await lines(runtime, launch_spec.instance)
    assert sorted(seen) == sorted(["error", "half line", "bad � byte", "no newline"])
    await runtime.remove(launch_spec.instance)
    assert await observation_of(runtime, launch_spec.instance) == ABSENT
    assert await lines(runtime, launch_spec.instance) == seen
    await runtime.purge_logs(launch_spec.instance)
    assert await lines(runtime, launch_spec.instance) == []


async def test_only_the_end_of_a_long_log_is_kept(
    runtime: DockerRuntime, install: str, tmp_path: Path
) -> None:
    launch_spec = spec(
        install, "yes 0123456789012345678901234567890123456789012345678901234567 | head -n 30000"
    )
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    await runtime.remove(launch_spec.instance)
    (saved,) = (tmp_path / "logs").glob("*.log")
    assert 900_000 < saved.stat().st_size <= 1024 * 1024


async def test_a_broken_log_stream_raises_unavailable(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        launch_spec = spec(install, SLEEPS)
        await runtime.start(launch_spec)
        lines_to_come = runtime.logs(launch_spec.instance, follow=True)
        assert isinstance(lines_to_come, AsyncGenerator)
        async with aclosing(lines_to_come) as followed:
            assert await asyncio.wait_for(anext(followed), PROMPT) == b"ready\n"
            await proxy.cut()
            with pytest.raises(RuntimeUnavailable):
                await asyncio.wait_for(anext(followed), PROMPT)
