"""A server that is not root, and workloads that lock their directories."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.plain_user import as_plain_user
from tests.support.process_runtime import INSTALL, new_name

SERVER = """
import asyncio, json, sys
from pathlib import Path
from hypervisor.runtimes.process.runtime import ProcessRuntime
from tests.contract.runtime_cases import RealClock
from tests.support.observing import end_of
from tests.support.process_runtime import log_of, shell
from tests.support.wait import eventually

async def main(state_dir, install, name, script):
    runtime = ProcessRuntime(Path(state_dir), install, RealClock(), housekeeping_interval=0.05)
    await runtime.start(shell(script, instance=name))
    ended = await end_of(runtime, name)
    log = await log_of(runtime, name)
    removed = await runtime.remove(name)
    folders = [Path(state_dir, folder) for folder in ("instances", "trash")]
    await eventually(lambda: not any(list(folder.iterdir()) for folder in folders))
    await runtime.close()
    print(json.dumps({"code": ended.exit_code, "log": log, "removed": removed}))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "script", ["chmod 0 ..", "chmod a-w ..", "chmod 0 .. ; chmod 0 .", "chmod 0 ../state"]
)
async def test_a_locked_instance_ends_and_leaves_nothing(tmp_path: Path, script: str) -> None:
    stored = "while [ ! -s ../log-1 ]; do sleep 0.01; done"
    end = await run(tmp_path, f"echo here; {stored}; {script}; exit 3")
    assert end["log"] == ["here"]
    assert end["code"] in (3, None)
    assert end["removed"]


@pytest.mark.parametrize(
    "script",
    [
        "mkdir -p a/b; touch a/b/c; chmod -R a-w .",
        "umask 777; mkdir x",
        "mkdir ../x ../x/y; chmod 0 ../x/y ../x",
    ],
)
async def test_a_locked_working_directory_is_deleted(tmp_path: Path, script: str) -> None:
    assert await run(tmp_path, f"{script}; exit 3") == {"code": 3, "log": [], "removed": True}


async def run(state_dir: Path, script: str) -> Any:
    argv = as_plain_user([sys.executable, "-c", SERVER, str(state_dir), INSTALL, new_name(), script])
    server = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await server.communicate()
    return json.loads(output)
