"""Stops reach every process of an instance, and none is left."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable

import psutil
import pytest

from hypervisor.runtimes.process.runtime import ProcessRuntime
from tests.support.observing import end_of
from tests.support.process_runtime import equals, log_of, marked, shell
from tests.support.wait import eventually

LEFTOVERS = {
    "same group": "sleep 1000 &",
    "own group": "python3 -c 'import os, time; os.setpgid(0, 0); time.sleep(1000)' &",
    "own session": "setsid sleep 1000 &",
}


@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_leftovers_of_the_main_command_are_killed(runtime: ProcessRuntime, kind: str) -> None:
    spec = shell(f"{LEFTOVERS[kind]} sleep 0.3; exit 4")
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 4
    assert marked(spec.instance) == []


@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_the_kill_reaches_every_process_of_the_instance(runtime: ProcessRuntime, kind: str) -> None:
    spec = shell(f"trap '' TERM; {LEFTOVERS[kind]} echo ready; while :; do sleep 0.05; done")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 0.2)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code == 137
    assert ended.message == "killed: still running 0.2 s after SIGTERM"
    assert marked(spec.instance) == []


async def test_term_reaches_a_child_in_another_session(runtime: ProcessRuntime) -> None:
    """torchrun starts its workers this way. They need the SIGTERM to write a checkpoint."""
    worker = "trap 'echo checkpoint; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    spec = shell(f"trap : TERM; setsid sh -c {shlex.quote(worker)} & wait; wait")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 5)
    await end_of(runtime, spec.instance)
    assert "checkpoint" in await log_of(runtime, spec.instance)


async def test_a_second_stop_with_less_grace_brings_the_kill_forward(runtime: ProcessRuntime) -> None:
    spec = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await runtime.start(spec)
    await eventually(lambda: equals(log_of(runtime, spec.instance), ["ready"]))
    await runtime.stop(spec.instance, 3600)
    await runtime.stop(spec.instance, 0)
    assert (await end_of(runtime, spec.instance)).exit_code == 137


async def test_opening_the_runtime_carries_out_an_overdue_kill(
    open_runtime: Callable[..., ProcessRuntime],
) -> None:
    first, spec = open_runtime(), shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await first.start(spec)
    await eventually(lambda: equals(log_of(first, spec.instance), ["ready"]))
    await first.stop(spec.instance, 0.5)
    await first.close()
    assert (await end_of(open_runtime(), spec.instance)).exit_code == 137


async def test_many_starts_at_once_all_end_and_leave_no_zombie(runtime: ProcessRuntime) -> None:
    before = set(psutil.Process().children())
    specs = [shell(f"exit {number}") for number in range(60)]
    await asyncio.gather(*(runtime.start(spec) for spec in specs))
    assert [(await end_of(runtime, spec.instance)).exit_code for spec in specs] == list(range(60))
    await eventually(lambda: set(psutil.Process().children()) <= before)
