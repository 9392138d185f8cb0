"""The output of a workload is stored whole and in order, whatever the workload does with its streams."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import logs, reaper
from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from tests.support.logs import line_by_line
from tests.support.observing import end_of
from tests.support.process_runtime import equals, log_of, marked, new_name, runs, shell, supervisor_of
from tests.support.wait import eventually

PYTHON = """\
import os, sys
print("one", flush=True)
with open("/dev/stdout", "w") as file: file.write("two\\n")
os.write(os.open("/proc/self/fd/2", os.O_WRONLY | os.O_TRUNC), b"three\\n")
sys.stderr.write("four\\n")
"""


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("echo one; echo two >/dev/stderr; echo three", ["one", "two", "three"]),
        ("echo one; echo two >/dev/stdout; echo three >&2", ["one", "two", "three"]),
        ("echo one; echo two >/proc/self/fd/1; echo three", ["one", "two", "three"]),
        ("echo one; echo two >>/dev/fd/2; echo three", ["one", "two", "three"]),
        ("echo one; (exec >/dev/stdout 2>/dev/stderr; echo two); echo three", ["one", "two", "three"]),
        ("echo one; echo two | tee /dev/stderr; echo three", ["one", "two", "two", "three"]),
        ("echo one; echo two | dd of=/dev/stdout status=none; echo three", ["one", "two", "three"]),
        ("exec >/dev/stderr; echo one; exec >/dev/stdout; echo two", ["one", "two"]),
        ("(sleep 0.2; echo late) & echo early; wait", ["early", "late"]),
        ("seq 3 >/dev/stderr; sh -c 'echo nested >/dev/stdout'; echo end", ["1", "2", "3", "nested", "end"]),
        ("echo one; exec >elsewhere; echo hidden; cat elsewhere >&2", ["one", "hidden"]),
        ("printf 'no newline'", ["no newline"]),
        ("echo one; echo two; kill -9 $$", ["one", "two"]),
        ("echo one >&2; kill -9 0", ["one"]),
        ("trap '' TERM; echo one; kill 0; echo two", ["one", "two"]),
    ],
)
async def test_nothing_that_was_written_is_lost(
    runtime: ProcessRuntime, script: str, lines: list[str]
) -> None:
    spec = shell(script)
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await log_of(runtime, spec.instance) == lines


async def test_a_program_opens_its_streams_again(runtime: ProcessRuntime) -> None:
    spec = LaunchSpec(new_name(), Resources(), command=("python3", "-c", PYTHON))
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await log_of(runtime, spec.instance) == ["one", "two", "three", "four"]


async def test_any_bytes_are_stored_as_written(runtime: ProcessRuntime, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4099
    source = tmp_path / "data"
    source.write_bytes(data)
    spec = shell(f"cat {source}")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert (tmp_path / "instances" / spec.instance / "log-1").read_bytes() == data


async def test_what_was_written_before_a_kill_is_stored(runtime: ProcessRuntime, tmp_path: Path) -> None:
    written = tmp_path / "written"
    spec = shell(f"trap '' TERM; seq 100000; touch {written}; while :; do sleep 0.05; done")
    await runtime.start(spec)
    await eventually(written.exists)
    await runtime.stop(spec.instance, 0)
    assert (await end_of(runtime, spec.instance)).exit_code == 137
    assert await log_of(runtime, spec.instance) == [str(number) for number in range(1, 100_001)]


async def test_output_of_a_stop_is_stored(runtime: ProcessRuntime) -> None:
    """The copier survives the signals to the group, and the last words of each process arrive."""
    child = "trap 'echo child ends; exit' TERM; echo ready; while :; do sleep 0.05; done"
    spec = shell(f"trap 'wait; echo parent ends; exit 3' TERM; sh -c {child!r} 2>/dev/null & wait")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 60)
    assert (await end_of(runtime, spec.instance)).exit_code == 3
    assert await log_of(runtime, spec.instance) == ["ready", "child ends", "parent ends"]


async def test_the_log_is_bounded_while_no_server_runs(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    limit, line_count, gate = 20_000, 50_000, tmp_path / "gate"
    first = open_runtime(log_limits=LogLimits(limit, 3))
    spec = shell(f"until [ -e {gate} ]; do sleep 0.05; done; seq {line_count}; echo end >end; sleep 1000")
    await first.start(spec)
    await eventually(lambda: runs(first, spec.instance))
    await first.close()
    folder = tmp_path / "instances" / spec.instance
    gate.touch()
    await eventually((folder / "work" / "end").exists)
    second = open_runtime()
    await eventually(lambda: ends_with(second, spec.instance, str(line_count)))
    files = [path.stat().st_size for path in folder.glob("log*")]
    assert len(files) <= 3
    assert max(files) <= limit
    assert sum(files) > limit
    kept = [int(line) for line in (await log_of(second, spec.instance))[1:]]
    assert kept == list(range(kept[0], line_count + 1))


async def test_a_follower_misses_nothing_of_a_fast_writer(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 MB are more than a file and less than all files."""
    monkeypatch.setattr(logs, "FOLLOW_INTERVAL", 0.01)
    line_count, line = 250_000, "x" * 92
    spec = LaunchSpec(
        new_name(),
        Resources(),
        command=("awk", f'BEGIN {{for (;i<{line_count};) printf "%07d{line}\\n", i++}}'),
    )
    await runtime.start(spec)
    async with asyncio.timeout(90):
        numbers = [int(text[:7]) async for text in line_by_line(runtime.logs(spec.instance, follow=True))]
    assert numbers == list(range(line_count))


async def test_a_stranger_that_holds_the_output_open_does_not_keep_the_instance(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `systemd-run --pipe` in a workload: the pipe does not end with the last process."""
    monkeypatch.setattr(reaper, "DRAIN_SECONDS", 0.2)
    runtime, gate = open_runtime(housekeeping_interval=0.05), tmp_path / "gate"
    spec = shell(f"echo one; until [ -e {gate} ]; do sleep 0.05; done; echo two; exit 4")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["one"]))
    supervisor = supervisor_of(tmp_path, spec.instance)
    (workload,) = [child for child in supervisor.children() if child.cmdline()[:2] == ["sh", "-c"]]
    held = os.open(f"/proc/{workload.pid}/fd/1", os.O_WRONLY)
    try:
        gate.touch()
        assert (await end_of(runtime, spec.instance)).exit_code == 4
    finally:
        os.close(held)
    assert await log_of(runtime, spec.instance) == ["one", "two"]
    assert marked(spec.instance) == []
    assert not psutil.pid_exists(supervisor.pid)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_workload_survives_a_full_disk(
    open_runtime: Callable[..., ProcessRuntime], small_disk: Path, tmp_path: Path
) -> None:
    """Output that does not fit is missing, the log says where, and later output is stored again."""
    written, freed, gate = (tmp_path / name for name in ("written", "freed", "gate"))
    ballast = small_disk / "ballast"
    runtime = open_runtime(state_dir=small_disk)
    script = f"seq 1000000; touch {written}; until [ -e {freed} ]; do sleep 0.02; done; "
    spec = shell(script + f"until [ -e {gate} ]; do echo new; sleep 0.02; done; exit 3", working_dir="/")
    ballast.write_bytes(b"x" * 300_000)
    await runtime.start(spec)
    await eventually(written.exists)
    ballast.unlink()
    freed.touch()
    await eventually(lambda: ends_with(runtime, spec.instance, "new"))
    gate.touch()
    ended = await end_of(runtime, spec.instance)
    assert (ended.exit_code, ended.message) == (3, None)
    lines = await log_of(runtime, spec.instance)
    assert lines[:3] == ["1", "2", "3"]
    assert any(line.startswith("[hypervisor: output is missing") for line in lines)


async def ends_with(runtime: ProcessRuntime, name: str, line: str) -> bool:
    assert (await log_of(runtime, name))[-1:] == [line]
    return True
