"""The labels of the simulated runtime, with a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec, Observation, ObservedState
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from tests.support.clock import START, FakeClock
from tests.support.wait import PROMPT

NAME = "hv-simtest-1-1-0"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtime(clock: FakeClock) -> SimulatedRuntime:
    return SimulatedRuntime(None, "simtest", clock)


def spec(labels: Mapping[str, str]) -> LaunchSpec:
    return LaunchSpec(NAME, Resources(), labels=labels)


async def observation_of(runtime: SimulatedRuntime) -> Observation:
    return (await runtime.observe([NAME]))[NAME]


async def test_duration_delay_and_exit_code_are_followed(runtime: SimulatedRuntime, clock: FakeClock) -> None:
    labels = {"simulate/start-delay": "5", "simulate/duration": "10.5", "simulate/exit-code": "3"}
    assert (await runtime.start(spec(labels))).state is ObservedState.CREATED
    clock.advance(5)
    assert await observation_of(runtime) == Observation(
        ObservedState.RUNNING, started_at=START + timedelta(seconds=5)
    )
    clock.advance(10.4)
    assert (await observation_of(runtime)).state is ObservedState.RUNNING
    clock.advance(0.1)
    ended = await observation_of(runtime)
    assert (ended.state, ended.exit_code) == (ObservedState.EXITED, 3)
    assert ended.finished_at == START + timedelta(seconds=15.5)


async def test_without_a_duration_it_runs_until_stopped(runtime: SimulatedRuntime, clock: FakeClock) -> None:
    await runtime.start(spec({"unrelated": "label"}))
    clock.advance(timedelta(days=365))
    assert (await observation_of(runtime)).state is ObservedState.RUNNING
    await runtime.stop(NAME, 60)
    assert (await observation_of(runtime)).exit_code == 143


async def test_ignoring_term_lasts_to_the_end_of_grace_or_of_the_run(
    runtime: SimulatedRuntime, clock: FakeClock
) -> None:
    await runtime.start(spec({"simulate/ignore-term": "true", "simulate/duration": "100"}))
    await runtime.stop(NAME, 30)
    clock.advance(29)
    await runtime.stop(NAME, 30)
    assert (await observation_of(runtime)).state is ObservedState.RUNNING
    clock.advance(1)
    assert (await observation_of(runtime)).exit_code == 137


async def test_a_run_that_ends_inside_grace_keeps_its_own_exit_code(
    runtime: SimulatedRuntime, clock: FakeClock
) -> None:
    await runtime.start(spec({"simulate/ignore-term": "true", "simulate/duration": "10"}))
    await runtime.stop(NAME, 30)
    clock.advance(10)
    assert (await observation_of(runtime)).exit_code == 0


async def test_an_ended_instance_stays_ended_when_the_clock_is_set_back(
    runtime: SimulatedRuntime, clock: FakeClock
) -> None:
    await runtime.start(spec({"simulate/duration": "10"}))
    clock.advance(10)
    ended = await observation_of(runtime)
    clock.jump(-timedelta(hours=1))
    assert await observation_of(runtime) == ended


async def test_another_server_finds_stops_and_ends(clock: FakeClock, tmp_path: Path) -> None:
    first = SimulatedRuntime(tmp_path, "simtest", clock)
    await first.start(spec({"simulate/ignore-term": "true"}))
    await first.stop(NAME, 30)
    await first.close()
    clock.advance(30)
    second = SimulatedRuntime(tmp_path, "simtest", clock)
    assert (await observation_of(second)).exit_code == 137
    assert await SimulatedRuntime(tmp_path, "another", clock).list_instances() == {}


async def test_a_hint_comes_when_the_clock_reaches_the_end(
    runtime: SimulatedRuntime, clock: FakeClock
) -> None:
    changes = runtime.changes()
    await runtime.start(spec({"simulate/duration": "0.05"}))
    assert await anext(changes) == NAME
    clock.advance(1)
    async with asyncio.timeout(PROMPT):
        assert await anext(changes) == NAME
    await runtime.close()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"simulate/fail-start": "no such image"}, "^no such image$"),
        ({"simulate/duration": "soon"}, "simulate/duration must be a number of seconds"),
        ({"simulate/duration": "-1"}, "simulate/duration must be"),
        ({"simulate/duration": "nan"}, "simulate/duration must be"),
        ({"simulate/start-delay": "inf"}, "simulate/start-delay must be"),
        ({"simulate/exit-code": "256"}, "whole number from 0 to 255, not '256'"),
        ({"simulate/exit-code": "²"}, "whole number"),
        ({"simulate/ignore-term": "yes"}, 'must be "true" or "false"'),
        ({"simulate/durration": "1"}, "unknown label simulate/durration; the labels are "),
    ],
)
async def test_invalid_labels_are_refused(
    runtime: SimulatedRuntime, labels: dict[str, str], words: str
) -> None:
    with pytest.raises(LaunchFailed, match=words):
        await runtime.start(spec(labels))
    assert (await observation_of(runtime)).state is ObservedState.ABSENT
