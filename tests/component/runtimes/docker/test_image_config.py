"""What an image declares about its containers: STOPSIGNAL and HEALTHCHECK."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hypervisor.kernel.observation import Health
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import ObservedState
from tests.support.docker import Api
from tests.support.docker_images import image
from tests.support.docker_runtime import lines, spec
from tests.support.observing import end_of, observation_of
from tests.support.wait import eventually

pytestmark = pytest.mark.docker

SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "USR1": 10, "TERM": 15, "34": 34, "37": 37}
TELLS = (
    "; ".join(f"trap 'exit {number}' {name}" for name, number in SIGNALS.items())
    + "; echo ready; while :; do sleep 0.05; done"
)
"""Exits with the number of the first signal that it receives."""


@pytest.mark.parametrize(
    ("stop_signal", "received"),
    [
        ("SIGINT", 2),
        ("quit", 3),
        ("USR1", 10),
        ("1", 1),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("", 15),
        ("SIGTERM", 15),
        ("99", 15),
    ],
)
async def test_a_stop_sends_the_stop_signal_of_the_image(
    runtime: DockerRuntime, install: str, api: Api, stop_signal: str, received: int
) -> None:
    with image(api, f"signal-{install}", StopSignal=stop_signal) as reference:
        launch_spec = spec(install, TELLS, image=reference)
        await runtime.start(launch_spec)
        await eventually(lambda: _has_printed(runtime, launch_spec.instance, "ready"))
        await runtime.stop(launch_spec.instance, 3600)
        assert (await end_of(runtime, launch_spec.instance)).exit_code == received
        assert await runtime.remove(launch_spec.instance)


@pytest.mark.parametrize("stop_signal", ["9", "SIGKILL"])
async def test_an_image_may_ask_for_a_kill_without_a_grace_period(
    runtime: DockerRuntime, install: str, api: Api, stop_signal: str
) -> None:
    with image(api, f"signal-{install}", StopSignal=stop_signal) as reference:
        launch_spec = spec(install, TELLS, image=reference)
        await runtime.start(launch_spec)
        await runtime.stop(launch_spec.instance, 3600)
        assert (await end_of(runtime, launch_spec.instance)).exit_code == 137
        assert await runtime.remove(launch_spec.instance)


@pytest.mark.parametrize("stop_signal", ["NONSENSE", "0", "SIGRTMIN+99"])
async def test_a_stop_signal_that_the_engine_does_not_know_leaves_the_kill(
    runtime: DockerRuntime, install: str, api: Api, stop_signal: str
) -> None:
    with image(api, f"signal-{install}", StopSignal=stop_signal) as reference:
        launch_spec = spec(install, TELLS, image=reference)
        await runtime.start(launch_spec)
        stopped_at = time.monotonic()
        await runtime.stop(launch_spec.instance, 0.5)
        assert (await end_of(runtime, launch_spec.instance)).exit_code == 137
        assert time.monotonic() - stopped_at >= 0.4
        assert await runtime.remove(launch_spec.instance)


async def test_the_health_of_a_container_is_observed_and_follows_its_changes(
    runtime: DockerRuntime, install: str, api: Api
) -> None:
    with image(api, f"health-{install}", Healthcheck=_check("test -e /tmp/well")) as reference:
        checked = spec(install, "rm -f /tmp/well; touch /tmp/well; " + TELLS, 1, image=reference)
        unchecked = spec(install, TELLS, 2)
        await runtime.start(unchecked)
        assert (await runtime.start(checked)).health in (Health.STARTING, Health.HEALTHY)
        names = [checked.instance, unchecked.instance]
        changes = runtime.changes()
        await eventually(lambda: _has_health(runtime, names, Health.HEALTHY))
        _run(api, checked.instance, "rm", "/tmp/well")
        await eventually(lambda: _has_health(runtime, names, Health.UNHEALTHY))
        assert (await observation_of(runtime, checked.instance)).health is Health.UNHEALTHY
        _run(api, checked.instance, "touch", "/tmp/well")
        async for name in changes:
            if await _is_healthy(runtime, name):
                break
        await runtime.stop(checked.instance, 3600)
        assert (await end_of(runtime, checked.instance)).health is None
        assert await runtime.remove(checked.instance)


@pytest.mark.parametrize("check", [{"Test": ["NONE"]}, {"Test": []}, {}])
async def test_an_image_without_a_health_check_has_no_health(
    runtime: DockerRuntime, install: str, api: Api, check: dict[str, Any]
) -> None:
    with image(api, f"health-{install}", Healthcheck=check) as reference:
        launch_spec = spec(install, TELLS, image=reference)
        observed = await runtime.start(launch_spec)
        assert (observed.state, observed.health) == (ObservedState.RUNNING, None)
        await runtime.stop(launch_spec.instance, 0)
        await end_of(runtime, launch_spec.instance)
        assert await runtime.remove(launch_spec.instance)


def _check(command: str) -> dict[str, Any]:
    return {"Test": ["CMD-SHELL", command], "Interval": 100_000_000, "Timeout": 5_000_000_000, "Retries": 1}


def _run(api: Api, container: str, *command: str) -> None:
    created = api.json("POST", f"/containers/{container}/exec", {"Cmd": command})
    api.json("POST", f"/exec/{created['Id']}/start", {"Detach": True})


async def _has_printed(runtime: DockerRuntime, name: str, line: str) -> bool:
    return line in await lines(runtime, name)


async def _has_health(runtime: DockerRuntime, names: list[str], health: Health) -> bool:
    """Whether the first has this health and the second has none, observed with one list call."""
    observations = await runtime.observe(names)
    return [observations[name].health for name in names] == [health, None]


async def _is_healthy(runtime: DockerRuntime, name: str) -> bool:
    return (await observation_of(runtime, name)).health is Health.HEALTHY
