"""HOST in all its forms: the banner, its hints, and the address that workloads report to."""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hypervisor.addresses import source_address
from hypervisor.client import Client
from hypervisor.client.deployments import has_ended
from tests.support.docker import IMAGE, clean_up, why_no_docker
from tests.support.people import registered_client
from tests.support.server import HypervisorServer, running_server
from tests.support.wait import PROMPT, eventually_sync

SECRET = "a secret key that is long enough for a test"
REPORT = """
import os
from hypervisor.client.checkpoint import report
print(report(step=7), os.environ["HV_CHECKPOINT_URL"], flush=True)
"""
CONTAINER_REPORT = (
    'if [ -z "$HV_CHECKPOINT_URL$HV_CHECKPOINT_TOKEN" ]; then echo no address; exit; fi; '
    'wget -q -O - --header "Authorization: Bearer $HV_CHECKPOINT_TOKEN" '
    """--header 'Content-Type: application/json' --post-data '{"step": 7}' "$HV_CHECKPOINT_URL" """
    '> /dev/null && echo "reported to $HV_CHECKPOINT_URL"'
)
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6; skipped")
needs_route = pytest.mark.skipif(source_address() is None, reason="this machine has no network; skipped")


@pytest.mark.parametrize(
    ("host", "also_at"),
    [
        ("127.0.0.1", []),
        ("0.0.0.0", []),
        ("localhost", ["127.0.0.1"]),
        pytest.param("::1", [], marks=needs_ipv6),
        pytest.param("::", ["127.0.0.1", "[::1]"], marks=needs_ipv6),
        pytest.param(socket.gethostname(), []),
    ],
)
def test_banner_hints_and_report_url_answer(tmp_path: Path, host: str, also_at: list[str]) -> None:
    with running_server(tmp_path / "server", HOST=host, SECRET_KEY=SECRET) as server:
        banner = eventually_sync(lambda: _banner(server))
        urls = re.findall(r"http://[^\s/]+", banner)
        assert {url.rpartition(":")[2] for url in urls} == {str(server.port)}
        for url in {*urls, *(f"http://{name}:{server.port}" for name in also_at)}:
            assert httpx2.get(f"{url}/readyz").status_code == 200
        with registered_client(urls[0]) as ada:
            ada.clusters.create("lab", {"total_cpu_cores": 1, "total_ram_gb": 1})
            command = [sys.executable, "-c", REPORT]
            job = ada.deployments.create({"name": "train", "kind": "job", "command": command})
            log = _end_of(ada, job["id"])
            assert log.split() == ["True", f"{urls[0]}/api/v1/deployments/{job['id']}/checkpoint"]
            assert _reported(ada, job["id"]) == {"step": 7}


@pytest.mark.docker
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "no address"),
        pytest.param("0.0.0.0", f"reported to http://{source_address()}:", marks=needs_route),
        pytest.param("::", f"reported to http://{source_address()}:", marks=[needs_ipv6, needs_route]),
        pytest.param(source_address(), f"reported to http://{source_address()}:", marks=needs_route),
    ],
)
def test_a_container_reports_to_an_address_that_answers(tmp_path: Path, host: str, expected: str) -> None:
    with _server_with_engine(tmp_path, host) as server, registered_client(server.url) as ada:
        ada.clusters.create("boxes", {"runtime": "docker", "total_cpu_cores": 1, "total_ram_gb": 1})
        job = ada.deployments.create(
            {
                "name": "train",
                "kind": "job",
                "docker_image": IMAGE,
                "command": ["sh", "-c", CONTAINER_REPORT],
                "required_cpu_cores": 0.1,
                "required_ram_gb": 0.1,
            }
        )
        assert _end_of(ada, job["id"]).startswith(expected)
        assert _reported(ada, job["id"]) == (None if host == "127.0.0.1" else {"step": 7})


@contextmanager
def _server_with_engine(folder: Path, host: str) -> Iterator[HypervisorServer]:
    if missing := why_no_docker():
        pytest.skip(missing)
    with running_server(
        folder / "server", HOST=host, SECRET_KEY=SECRET, DOCKER_PULL_POLICY="never"
    ) as server:
        try:
            yield server
        finally:
            with closing(sqlite3.connect(server.folder / "hypervisor.db")) as database:
                clean_up(str(database.execute("SELECT install_id FROM installation").fetchone()[0]))


def _banner(server: HypervisorServer) -> str | None:
    log = server.log.read_text()
    return "\n".join(line for line in log.splitlines() if "http://" in line) if "Stop " in log else None


def _reported(client: Client, deployment_id: int) -> dict[str, Any] | None:
    """The checkpoint of the only attempt."""
    [attempt] = client.deployments.attempts(deployment_id)
    return attempt["checkpoint"]


def _end_of(client: Client, deployment_id: int) -> str:
    """The log of a job that has ended."""
    ended = client.deployments.wait(deployment_id, has_ended, timeout=PROMPT)
    log = client.deployments.logs(deployment_id)
    assert ended["status"] == "SUCCEEDED", f"{ended['reason']}: {log}"
    return log
