"""The files of an instance: logs, claim, bounds, and no secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import logs
from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec
from tests.support.logs import line_by_line, lines_of
from tests.support.observing import end_of
from tests.support.process_runtime import log_of, new_name, shell
from tests.support.wait import eventually


async def test_remove_keeps_logs_and_claim(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """The claim stays, so that a late supervisor in the directory still gives up."""
    spec = shell("echo kept; echo data >file; mkdir ../beside; echo x >../beside/file")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    await runtime.remove(spec.instance)
    assert not (tmp_path / "instances" / spec.instance).exists()
    assert {path.name for path in (tmp_path / "logs" / spec.instance).iterdir()} == {"log-1", "state"}
    assert await log_of(runtime, spec.instance) == ["kept"]
    trash = tmp_path / "trash"
    await eventually(lambda: not list(trash.iterdir()))


async def test_an_interrupted_removal_is_completed(runtime: ProcessRuntime, tmp_path: Path) -> None:
    spec = shell("echo new")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    kept = tmp_path / "logs" / spec.instance
    kept.mkdir()
    (kept / "log.1").write_text("old\n")
    await runtime.remove(spec.instance)
    assert not (tmp_path / "instances" / spec.instance).exists()
    assert await log_of(runtime, spec.instance) == ["old", "new"]


async def test_the_output_on_disk_is_bounded_and_a_follower_misses_nothing(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workload writes a batch when the last one was read."""
    monkeypatch.setattr(logs, "FOLLOW_INTERVAL", 0.01)
    limit, line_count, batch = 20_000, 2_000, 100
    runtime = open_runtime(log_limits=LogLimits(limit, 3))
    program = (
        "import os, time\n"
        f"for first in range(0, {line_count}, {batch}):\n"
        f"    while not os.path.exists(f'{tmp_path}/go-{{first}}'): time.sleep(0.01)\n"
        f"    lines = (f'{{number:07}} ' + 'x' * 40 + '\\n' for number in range(first, first + {batch}))\n"
        "    os.write(1, ''.join(lines).encode())\n"
    )
    spec = LaunchSpec(new_name(), Resources(), command=("python3", "-c", program))
    (tmp_path / "go-0").touch()
    await runtime.start(spec)
    numbers = []
    async with asyncio.timeout(90):
        async for line in line_by_line(runtime.logs(spec.instance, follow=True)):
            numbers.append(int(line.split()[0]))
            assert disk_use(tmp_path, spec.instance) <= 3 * limit
            if len(numbers) % batch == 0 and len(numbers) < line_count:
                (tmp_path / f"go-{len(numbers)}").touch()
    assert numbers == list(range(line_count))
    kept = [int(line.split()[0]) for line in (await log_of(runtime, spec.instance))[1:]]
    assert kept == list(range(kept[0], line_count))
    assert len(kept) > 1.5 * limit / 50
    tail = await lines_of(runtime, spec.instance, tail=len(kept))
    assert [int(line.split()[0]) for line in tail] == kept


async def test_secrets_in_the_environment_never_reach_the_disk(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    secret = "correct-horse-battery-staple"
    spec = shell("sleep 1000", env={"TOKEN": secret})
    await runtime.start(spec)
    await runtime.stop(spec.instance, 60)
    await end_of(runtime, spec.instance)
    written = contents(tmp_path)
    assert written
    assert [path for path, content in written.items() if secret.encode() in content] == []


def contents(state_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}


def disk_use(state_dir: Path, instance: str) -> int:
    total = 0
    for path in (state_dir / "instances" / instance).glob("*log*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
