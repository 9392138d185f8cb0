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
from tests.support.observing import end_of, look
from tests.support.proxy import EngineProxy
from tests.support.wait import PROMPT

pytestmark = pytest.mark.docker


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


async def test_a_broken_log_stream_raises_unavailable(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        wanted = spec(install, SLEEPS)
        await runtime.start(wanted)
        lines_to_come = runtime.logs(wanted.instance, follow=True)
        assert isinstance(lines_to_come, AsyncGenerator)
        async with aclosing(lines_to_come) as followed:
            assert await asyncio.wait_for(anext(followed), PROMPT) == "ready"
            await proxy.cut()
            with pytest.raises(RuntimeUnavailable):
                await asyncio.wait_for(anext(followed), PROMPT)
