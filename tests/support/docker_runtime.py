"""Helpers for tests of the Docker runtime on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.protocol import LaunchSpec, RuntimeUnavailable
from tests.support import docker
from tests.support.logs import lines_of

CREATOR_SECONDS = 60.0
"""Long enough that a slow start on a busy machine is not taken for a dead creator."""

SLEEPS = "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"


def spec(install: str, script: str, number: int = 1, **fields: Any) -> LaunchSpec:
    fields = {"resources": Resources(200, 64), "image": docker.IMAGE, **fields}
    return LaunchSpec(str(InstanceName(install, number, 1)), command=("/bin/sh", "-c", script), **fields)


async def check_unavailable(runtime: DockerRuntime, launch_spec: LaunchSpec) -> None:
    """Check that every call raises RuntimeUnavailable."""
    for call in (
        lambda: runtime.observe([launch_spec.instance]),
        lambda: runtime.observe([launch_spec.instance, "hv-other-1-1-0"]),
        lambda: runtime.list_instances(),
        lambda: runtime.start(launch_spec),
        lambda: runtime.stop(launch_spec.instance, 5),
        lambda: runtime.remove(launch_spec.instance),
    ):
        with pytest.raises(RuntimeUnavailable):
            await call()


@asynccontextmanager
async def opened(runtime: DockerRuntime) -> AsyncIterator[DockerRuntime]:
    try:
        yield runtime
    finally:
        await runtime.close()


async def lines(runtime: DockerRuntime, name: str, *, tail: int | None = None) -> list[str]:
    return await lines_of(runtime, name, tail=tail)
