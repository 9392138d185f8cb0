"""What a supervisor costs: memory, a start, and the speed of the output.

`python -m benchmarks.supervisors` uses the process runtime without a server, and measures in turn:

- `memory_kib`: the private and the proportional memory of the processes that serve one sleeping workload
  (the supervisor, its copier and the copier's tool).
- `jobs`: batches of `true`, a few at a time, from the start to the observed end. `cgroups` and `subreapers`
  are the two ways to contain processes; `raw` starts and waits for the same processes in a Python loop.
  `cpu_ms` is the processor time of a job, of this process and of all that ended.
- `output_mb_per_second`: a workload writes 64 KiB at a time, through its pipe to the bounded log, and (`raw`)
  to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.support.report import print_report
from hypervisor.infra.clock import SystemClock
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import cgroups
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState

_INSTALL = "benchmark"
_AT_ONCE = 4
_WRITE = "import os\nfor _ in range({count}): os.write(1, b'x' * 65535 + b'\\n')"
_ids = itertools.count(1)


def main() -> None:
    """Measure and print the report."""
    arguments = _parse()
    jobs, megabytes, repeat = (60, 200, 2) if arguments.small else (300, 1000, arguments.repeat)
    print_report("supervisors", asyncio.run(_measure(jobs, megabytes, repeat)))


async def _measure(jobs: int, megabytes: int, repeat: int) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {}
    speeds: dict[str, list[float]] = {"copier": [], "raw": []}
    sides = (["cgroups"] if cgroups.writable_parent() else []) + ["subreapers"]
    for round_ in range(repeat + 1):
        measured = {side: await _batch(jobs, use_cgroups=side == "cgroups") for side in sides}
        measured["raw"] = _raw(jobs)
        speed = {"copier": await _copied(megabytes), "raw": _written(megabytes)}
        # The first round warms the caches and is not counted.
        for side in measured if round_ else ():
            rounds.setdefault(side, []).append(measured[side])
        for side in speed if round_ else ():
            speeds[side].append(speed[side])
    return {
        "memory_kib": await _memory(),
        "jobs": {
            side: {key: round(statistics.median(one[key] for one in ran), 2) for key in ran[0]}
            for side, ran in rounds.items()
        },
        "output_mb_per_second": {side: round(statistics.median(ran)) for side, ran in speeds.items()},
    }


async def _memory() -> dict[str, int]:
    """The memory of the processes between the server and one workload."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = ProcessRuntime(Path(folder), _INSTALL, SystemClock())
        name = await _start(runtime, "sleep", "1000")
        # Long enough for all of them to start.
        await asyncio.sleep(1)
        started = psutil.Process().children(recursive=True)
        used = [one.memory_full_info() for one in started if one.cmdline()[0] != "sleep"]
        await runtime.stop(name, 0)
        await _end(runtime, name)
        await runtime.close()
    return {
        "private": sum(one.uss for one in used) // 1024,
        "proportional": sum(one.pss for one in used) // 1024,
    }


async def _batch(jobs: int, *, use_cgroups: bool) -> dict[str, float]:
    """Milliseconds of wall clock and of processor time for one job."""

    async def work() -> None:
        for _ in range(jobs // _AT_ONCE):
            await _end(runtime, await _start(runtime, "true"))

    with tempfile.TemporaryDirectory() as folder:
        runtime = ProcessRuntime(Path(folder), _INSTALL, SystemClock(), use_cgroups=use_cgroups)
        await runtime.probe()
        with _timed() as spent:
            await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
            await runtime.close()
    return _per_job(spent, jobs)


def _raw(jobs: int) -> dict[str, float]:
    with _timed() as spent:
        for _ in range(jobs // _AT_ONCE):
            wave = [subprocess.Popen(["true"]) for _ in range(_AT_ONCE)]
            for child in wave:
                child.wait()
    return _per_job(spent, jobs)


async def _copied(megabytes: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        runtime = ProcessRuntime(Path(folder), _INSTALL, SystemClock())
        began = time.monotonic()
        program = _WRITE.format(count=megabytes * 10**6 // 2**16)
        await _end(runtime, await _start(runtime, sys.executable, "-c", program))
        speed = megabytes / (time.monotonic() - began)
        await runtime.close()
    return speed


def _written(megabytes: int) -> float:
    program = _WRITE.format(count=megabytes * 10**6 // 2**16)
    with tempfile.TemporaryFile() as file:
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
        return megabytes / (time.monotonic() - began)


async def _start(runtime: ProcessRuntime, *command: str) -> str:
    name = f"hv-{_INSTALL}-{next(_ids)}-1-0"
    await runtime.start(LaunchSpec(name, Resources(), command=command))
    return name


async def _end(runtime: ProcessRuntime, name: str) -> None:
    changes = runtime.changes()
    while (await runtime.observe([name]))[name].state is not ObservedState.EXITED:
        await anext(changes)


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Seconds of wall clock and of processor time, of this process and of its children that have ended."""
    spent: dict[str, float] = {}
    before, began = _cpu_seconds(), time.monotonic()
    yield spent
    spent |= {"wall": time.monotonic() - began, "cpu": _cpu_seconds() - before}


def _per_job(spent: dict[str, float], jobs: int) -> dict[str, float]:
    return {f"{clock}_ms": 1000 * seconds / jobs for clock, seconds in spent.items()}


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5, help="number of rounds (default 5)")
    parser.add_argument("--small", action="store_true", help="a quick run: 60 jobs, 200 MB, two rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
