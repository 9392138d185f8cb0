"""The followed log of a container is whole over rotations, its end and its removal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.client import Client
from tests.e2e.test_crash import server_with_engine
from tests.support.docker import IMAGE
from tests.support.people import registered_client
from tests.support.server import HypervisorServer

__all__ = ["server_with_engine"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LAST = 320_000
"""More lines than the engine stores in one file of 10 MB."""


@pytest.fixture
def ada(server_with_engine: HypervisorServer, tmp_path: Path) -> Iterator[Client]:
    with registered_client(server_with_engine.url) as client:
        client.clusters.create("c", {"runtime": "docker", "total_cpu_cores": 4, "total_ram_gb": 4})
        yield client


def deployed(ada: Client, script: str) -> int:
    work = ada.deployments.create(
        {"name": "count", "kind": "job", "docker_image": IMAGE, "command": ["sh", "-c", script]}
    )
    return int(work["id"])


def test_a_job_that_ends_while_its_follower_is_behind(ada: Client) -> None:
    job = deployed(ada, f"seq 1 {LAST}")
    lines = list(ada.deployments.follow_logs(job, tail=1_000_000))
    assert lines == [str(number) for number in range(1, LAST + 1)]
    assert ada.deployments.logs(job, tail=1_000_000).splitlines() == lines


@pytest.mark.parametrize("command", ["stop", "cancel"])
def test_a_job_that_is_ended_while_its_follower_is_behind(ada: Client, command: str) -> None:
    job = deployed(
        ada, f"exec 2>/dev/null; trap 'echo end; exit' TERM; seq 1 {LAST}; while :; do sleep 0.05; done"
    )
    lines = iter(ada.deployments.follow_logs(job, tail=1_000_000))
    read = [next(lines)]
    getattr(ada.deployments, command)(job)
    read += list(lines)
    assert read == [*(str(number) for number in range(1, len(read))), "end"]
    assert ada.deployments.logs(job, tail=1_000_000).splitlines() == read
