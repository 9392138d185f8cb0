"""One API server and two schedulers on one PostgreSQL: takeover after a death and after a stop."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest

from hypervisor.client import Client
from tests.support.people import all_in, registered_client
from tests.support.replicas import replicas
from tests.support.server import HypervisorServer

FOREVER = ["sh", "-c", "echo up; while :; do sleep 1; done"]


@pytest.mark.slow
def test_a_scheduler_takes_over_from_one_that_dies_and_from_one_that_stops(
    tmp_path: Path, postgresql_url: str
) -> None:
    with replicas(tmp_path / "hv", postgresql_url) as all_of_them:
        api = all_of_them.start("api", "api")
        for name in ("one", "two"):
            all_of_them.start(name, "scheduler")
        with registered_client(api.url) as ada:
            cluster = ada.clusters.create(
                "p", {"runtime": "process", "total_cpu_cores": 4, "total_ram_gb": 4}
            )
            service = ada.deployments.create({"name": "service", "command": FOREVER})["id"]
            all_in(ada, [service], "RUNNING")
            assert "up" in ada.deployments.logs(service)

            for end in ("kill", "stop"):
                gone = all_of_them.held("engine:process")
                getattr(all_of_them.servers[gone], end)()
                took = _until_scheduled(ada, f"after-{end}")
                print(f"{end}: scheduled and run again after {took:.2f} s")
                left = all_of_them.held("engine:process")
                assert left != gone
                assert all_of_them.held(f"cluster:{cluster['id']}") == left
                if end == "kill":
                    all_of_them.servers[gone].start()

            all_in(ada, [service], "RUNNING")
            assert len(ada.deployments.attempts(service)) == 1
            _only_health(all_of_them.servers[left])


def _until_scheduled(ada: Client, name: str) -> float:
    """Submit a job and wait for its end. Returns the seconds."""
    began = time.monotonic()
    job = ada.deployments.create({"name": name, "kind": "job", "command": ["echo", name]})["id"]
    all_in(ada, [job], "SUCCEEDED")
    took = time.monotonic() - began
    assert name in ada.deployments.logs(job)
    assert len(ada.deployments.attempts(job)) == 1
    return took


def _only_health(scheduler: HypervisorServer) -> None:
    """Check that a scheduler serves only health checks."""
    codes = {
        path: httpx2.get(f"{scheduler.url}{path}").status_code
        for path in ("/healthz", "/readyz", "/metrics", "/api/v1/clusters", "/docs", "/admin/")
    }
    assert [codes[path] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    assert {codes[path] for path in ("/api/v1/clusters", "/docs", "/admin/")} == {404}, codes
