"""Logs of containers: whole lines, bounded, and archived when the container is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from hypervisor.runtimes.docker import config, log_archive
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import ABSENT, RuntimeUnavailable
from tests.support.docker_runtime import SLEEPS, lines, opened, spec
from tests.support.logs import line_by_line, output_of
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
    runtime: DockerRuntime, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_archive, "ARCHIVED_BYTES", 100_000)
    launch_spec = spec(install, "seq 30000; head -c 90000 /dev/zero | tr '\\0' x")
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    await runtime.remove(launch_spec.instance)
    assert 99_990 < len(await output_of(runtime, launch_spec.instance)) <= 100_000
    (saved,) = (tmp_path / "logs").iterdir()
    assert saved.stat().st_size < 100_000
    first, *_, before, last = await lines(runtime, launch_spec.instance)
    assert (int(first), int(before), last) == (28_335, 30_000, "x" * 90_000)


async def test_a_character_at_a_record_boundary_is_whole(runtime: DockerRuntime, install: str) -> None:
    """The engine cuts a long line after 16 KiB."""
    script = "for i in 1 2 3; do head -c 16383 /dev/zero | tr '\\0' x; echo é; done; echo end"
    launch_spec = spec(install, script)
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    line = "x" * 16383 + "é"
    assert await lines(runtime, launch_spec.instance) == [line] * 3 + ["end"]
    assert [line async for line in line_by_line(runtime.logs(launch_spec.instance, tail=2))] == [line, "end"]


async def test_the_tail_counts_the_lines_of_both_streams(runtime: DockerRuntime, install: str) -> None:
    script = (
        "for i in 1 2 3 4 5; do echo $i; echo error $i >&2; done; echo before >&2; "
        "head -c 100000 /dev/zero | tr '\\0' x; for i in 6 7 8; do echo $i >&2; done; sleep 0.2; "
        "echo; echo end"
    )
    launch_spec = spec(install, script)
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    whole = await lines(runtime, launch_spec.instance)
    assert len(whole) == 16
    for count in range(len(whole) + 2):
        tail = await lines(runtime, launch_spec.instance, tail=count)
        assert tail == whole[len(whole) - min(count, len(whole)) :]


async def test_an_engine_without_the_exact_log_driver_uses_another(
    runtime: DockerRuntime, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "EXACT_LOG_DRIVER", "none-such")
    launch_spec = spec(install, "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end")
    await runtime.start(launch_spec)
    await end_of(runtime, launch_spec.instance)
    assert await lines(runtime, launch_spec.instance) == ["x" * 40000, "end"]
    assert await lines(runtime, launch_spec.instance, tail=2) == ["x" * 40000, "end"]
    assert await lines(runtime, launch_spec.instance, tail=1) == ["end"]


async def test_a_broken_log_stream_raises_unavailable(install: str, proxy: EngineProxy) -> None:
    async with opened(DockerRuntime(install, proxy.endpoint)) as runtime:
        launch_spec = spec(install, SLEEPS)
        await runtime.start(launch_spec)
        lines_to_come = runtime.logs(launch_spec.instance, follow=True)
        assert isinstance(lines_to_come, AsyncGenerator)
        async with aclosing(lines_to_come) as followed:
            while not (await asyncio.wait_for(anext(followed), PROMPT)).data:
                pass
            await proxy.cut()
            with pytest.raises(RuntimeUnavailable):
                async with asyncio.timeout(PROMPT):
                    _ = [chunk async for chunk in followed]


async def test_the_log_that_an_earlier_version_saved_is_read(
    runtime: DockerRuntime, install: str, tmp_path: Path
) -> None:
    name = spec(install, "").instance
    (tmp_path / "logs").mkdir(exist_ok=True)
    (tmp_path / "logs" / f"{name}.log").write_bytes(b"one\ntwo\nthree")
    assert await lines(runtime, name) == ["one", "two", "three"]
    assert await lines(runtime, name, tail=2) == ["two", "three"]
    assert b"".join([chunk.data async for chunk in runtime.logs(name, after="b4")]) == b"two\nthree"
    await runtime.purge_logs(name)
    assert await lines(runtime, name) == []
