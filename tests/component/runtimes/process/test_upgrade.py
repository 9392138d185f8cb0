"""Instances that version 0.1.0 started are adopted: they have no copier and write to `log` themselves."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.runtime import ProcessRuntime
from tests.support.logs import lines_of
from tests.support.observing import end_of
from tests.support.process_runtime import equals, log_of, new_name, runs
from tests.support.wait import eventually

SCRIPT = """\
trap : HUP INT QUIT ALRM USR1 USR2 PIPE TERM
set -C
claim() { echo "$$ ${20} $boot"; }
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
{ claim ${stat##*) } >state; } 2>/dev/null || exit 125
( [ ! -e stop ] || exit 143; cd "$1" && shift && exec "$@" ) >>log 2>&1
echo "exit $?" >>state
kill -KILL 0
"""


def start_old(state_dir: Path, script: str) -> tuple[str, subprocess.Popen[bytes]]:
    """What version 0.1.0 left after a kill -9: the supervisor runs, and its files are there."""
    name = new_name()
    folder = state_dir / "instances" / name
    (folder / "work").mkdir(parents=True)
    record = {"started_at": datetime.now(UTC).isoformat(), "ports": [[8080, 20001]]}
    (folder / "launch").write_text(json.dumps(record))
    argv = ["/bin/sh", "-c", SCRIPT, name, "./work", "sh", "-c", script]
    env = {"PATH": os.environ["PATH"], "HV_INSTANCE": name}
    return name, subprocess.Popen(argv, cwd=folder, env=env, start_new_session=True)


async def test_it_is_adopted_read_and_stopped(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    script = "trap 'echo ends; exit 7' TERM; echo begins; while :; do sleep 0.05; done"
    name, supervisor = start_old(tmp_path, script)
    runtime = open_runtime()
    await eventually(lambda: equals(log_of(runtime, name), ["begins"]))
    assert await runs(runtime, name)
    await runtime.stop(name, 60)
    assert (await end_of(runtime, name)).exit_code == 7
    assert (await log_of(runtime, name))[::2] == ["begins", "ends"]
    await runtime.remove(name)
    assert (await log_of(runtime, name))[0] == "begins"
    supervisor.wait()


async def test_its_leftovers_and_its_kill_end_it(
    open_runtime: Callable[..., ProcessRuntime], tmp_path: Path
) -> None:
    name, supervisor = start_old(
        tmp_path, "trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 0.05; done"
    )
    runtime = open_runtime()
    await eventually(lambda: equals(log_of(runtime, name), ["ready"]))
    await runtime.stop(name, 0.2)
    assert (await end_of(runtime, name)).exit_code == 137
    supervisor.wait()


async def test_its_log_is_bounded(open_runtime: Callable[..., ProcessRuntime], tmp_path: Path) -> None:
    gate, limit = tmp_path / "gate", 20_000
    name, supervisor = start_old(tmp_path, f"seq 5000; until [ -e {gate} ]; do sleep 0.05; done; echo end")
    folder = tmp_path / "instances" / name
    runtime = open_runtime(log_limits=LogLimits(limit, 3), housekeeping_interval=0.02)
    await eventually(lambda: runs(runtime, name))
    await eventually(lambda: (folder / "log-1").exists() and (folder / "log").stat().st_size == 0)
    gate.touch()
    async with asyncio.timeout(60):
        lines = await lines_of(runtime, name, follow=True)
    assert lines[-2:] == ["5000", "end"]
    assert sum(path.stat().st_size for path in folder.glob("log*")) <= 3 * limit
    supervisor.wait()
