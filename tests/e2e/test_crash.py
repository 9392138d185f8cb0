"""kill -9 of the server: workloads continue, none starts twice, none is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hypervisor.client import Client
from tests.support.docker import IMAGE, Api, clean_up, endpoint, why_no_docker
from tests.support.people import PASSWORD, all_in, registered_client
from tests.support.server import HypervisorServer, name_of, running_server
from tests.support.wait import eventually_sync

FOREVER = ["sh", "-c", "echo up; exec tail -f /dev/null"]
"""One process until its end, so that its pid identifies it."""


@pytest.fixture
def server_with_engine(tmp_path: Path) -> Iterator[HypervisorServer]:
    """A server with the process runtime and a container engine. Its containers are removed at the end."""
    missing = why_no_docker()
    if missing:
        pytest.skip(missing)
    with running_server(tmp_path / "server", DOCKER_PULL_POLICY="never") as server:
        try:
            yield server
        finally:
            clean_up(_install_id(server))


@pytest.mark.slow
def test_processes_survive_a_killed_server(server: HypervisorServer) -> None:
    with registered_client(server.url) as ada:
        ids = _three_processes(ada)
        before = _workload_pids(server)
        server.kill()
        assert _workload_pids(server) == before
        server.start()
        _nothing_changed(ada, ids)
    assert _workload_pids(server) == before


@pytest.mark.slow
def test_a_process_that_ends_while_the_server_is_dead_is_recorded(server: HypervisorServer) -> None:
    with registered_client(server.url) as ada:
        ada.clusters.create("c", {"runtime": "process", "total_cpu_cores": 4, "total_ram_gb": 4})
        gate = server.folder / "gate"
        job = ada.deployments.create(
            {
                "name": "job",
                "kind": "job",
                "command": ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done; exit 7"],
            }
        )["id"]
        all_in(ada, [job], "RUNNING")
        server.kill()
        gate.touch()
        eventually_sync(lambda: not _workload_pids(server), what="the workload ends by itself")
        server.start()
        all_in(ada, [job], "FAILED")
        assert ada.deployments.get(job)["exit_code"] == 7
        assert len(ada.deployments.attempts(job)) == 1


@pytest.mark.docker
@pytest.mark.slow
def test_three_containers_and_three_processes_survive_a_killed_server(
    server_with_engine: HypervisorServer,
) -> None:
    server = server_with_engine
    with registered_client(server.url) as ada:
        ids = _three_processes(ada) + _three_containers(ada)
        install = _install_id(server)
        pids, containers = _workload_pids(server), _container_ids(install)
        assert len(containers) == 3
        server.kill()
        server.start()
        _nothing_changed(ada, ids)
        assert _container_ids(install) == containers
        assert _workload_pids(server) == pids
        for one in ids:
            ada.deployments.stop(one, grace_period_seconds=0)
        all_in(ada, ids, "STOPPED")
    eventually_sync(lambda: not _container_ids(install), what="the containers are removed")


@pytest.mark.docker
@pytest.mark.slow
def test_a_container_has_its_limits_is_preempted_and_runs_again(
    server_with_engine: HypervisorServer,
) -> None:
    show_limits = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null || "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    )
    with registered_client(server_with_engine.url) as ada:
        ada.clusters.create("d", {"runtime": "docker", "total_cpu_cores": 1, "total_ram_gb": 1})
        low = ada.deployments.create(
            {
                "name": "low",
                "docker_image": IMAGE,
                "command": ["sh", "-c", f"{show_limits}; trap '' TERM; while :; do sleep 1; done"],
                "required_cpu_cores": 0.5,
                "required_ram_gb": 0.125,
                "priority": "LOW",
                "grace_period_seconds": 1,
            }
        )["id"]
        all_in(ada, [low], "RUNNING")
        limits = eventually_sync(lambda: _two_lines(ada, low), what="the container prints its limits")
        assert limits[0] == str(128 * 1024 * 1024)
        assert limits[1].split()[0] == "50000"
        high = ada.deployments.create(
            {
                "name": "high",
                "kind": "job",
                "docker_image": IMAGE,
                "command": ["sh", "-c", "sleep 1"],
                "required_cpu_cores": 1,
                "required_ram_gb": 0.125,
                "priority": "HIGH",
            }
        )["id"]
        all_in(ada, [high], "SUCCEEDED")
        all_in(ada, [low], "RUNNING")
        first, second = ada.deployments.attempts(low)
        assert (first["outcome"], first["exit_code"], first["preempted_by"]) == ("preempted", 137, high)
        assert second["outcome"] is None
        victims = ada.deployments.explain(high)["receipts"][0]["victims"]
        assert [victim["id"] for victim in victims] == [low]


@pytest.mark.docker
@pytest.mark.slow
def test_a_missing_image_fails_with_the_message_of_the_engine(server_with_engine: HypervisorServer) -> None:
    with registered_client(server_with_engine.url) as ada:
        ada.clusters.create("d", {"runtime": "docker", "total_cpu_cores": 1, "total_ram_gb": 1})
        lost = ada.deployments.create({"name": "lost", "kind": "job", "docker_image": "hv-test/no-such:1"})
        all_in(ada, [lost["id"]], "FAILED")
        assert "no-such" in (ada.deployments.get(lost["id"])["reason"] or "")


def _three_processes(ada: Client) -> list[int]:
    cluster = ada.clusters.create("p", {"runtime": "process", "total_cpu_cores": 4, "total_ram_gb": 4})
    created = ada.deployments.create_batch(
        [{"name": f"process-{n}", "cluster_id": cluster["id"], "command": FOREVER} for n in range(3)]
    )
    ids = [one["id"] for one in created]
    all_in(ada, ids, "RUNNING")
    return ids


def _three_containers(ada: Client) -> list[int]:
    cluster = ada.clusters.create("d", {"runtime": "docker", "total_cpu_cores": 4, "total_ram_gb": 4})
    expected = {"docker_image": IMAGE, "command": FOREVER, "required_ram_gb": 0.125}
    created = ada.deployments.create_batch(
        [{"name": f"container-{n}", "cluster_id": cluster["id"], **expected} for n in range(3)]
    )
    ids = [one["id"] for one in created]
    all_in(ada, ids, "RUNNING")
    return ids


def _nothing_changed(ada: Client, ids: list[int]) -> None:
    """Check that all run in their first attempt, after the new server has reconciled at least once."""
    ada.accounts.login("ada", PASSWORD)
    processes = next(c["id"] for c in ada.clusters.all() if c["resolved_runtime"] == "process")
    probe = ada.deployments.create(
        {"name": "probe", "kind": "job", "command": ["true"], "cluster_id": processes}
    )
    all_in(ada, [probe["id"]], "SUCCEEDED")
    all_in(ada, ids, "RUNNING")
    assert [len(ada.deployments.attempts(one)) for one in ids] == [1] * len(ids)


def _two_lines(ada: Client, deployment_id: int) -> list[str]:
    lines = ada.deployments.logs(deployment_id).splitlines()
    return lines if len(lines) >= 2 else []


def _workload_pids(server: HypervisorServer) -> set[int]:
    """The pids of supervisors and workloads, without the short-lived `sleep` processes of a loop."""
    own = server.process.pid if server.process is not None else 0
    names = {process.pid: name_of(process) for process in server.processes()}
    ignored = (None, "sleep", "python3", "python", "python3.11")
    return {pid for pid, name in names.items() if pid != own and name not in ignored}


def _container_ids(install: str) -> set[str]:
    api = Api(endpoint())
    found = api.json("GET", "/containers/json?all=1")
    return {c["Id"] for c in found if c["Labels"].get("hypervisor.install") == install}


def _install_id(server: HypervisorServer) -> str:
    """The install id, read from the database. The server may be down."""
    with closing(sqlite3.connect(server.folder / "hypervisor.db")) as database:
        return str(database.execute("SELECT install_id FROM installation").fetchone()[0])
