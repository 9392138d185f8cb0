"""`hypervisor serve`, `migrate` and `create-superuser`: banner, refusals, restarts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hypervisor.client import Client
from tests.e2e.cli_user import PASSWORD
from tests.support import forkserver
from tests.support.server import HypervisorServer, name_of, running_server
from tests.support.wait import PROMPT, eventually_sync


def hypervisor(
    server: HypervisorServer, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    outcome = forkserver.run(
        arguments, server.environment | environment, server.folder, stdin="", within=PROMPT
    )
    return subprocess.CompletedProcess(arguments, *outcome)


def test_the_banner_has_url_runtimes_and_next_step(server: HypervisorServer) -> None:
    eventually_sync(lambda: "Stop " in server.log.read_text())
    banner = server.log.read_text()
    assert f"ready at {server.url}" in banner
    assert "hypervisor.db" in banner
    assert "Runtime process" in banner
    assert f"hypervisor register --url {server.url}" in banner
    assert "Traceback" not in banner


def test_a_second_server_on_the_same_file_is_refused_in_one_line(server: HypervisorServer) -> None:
    second = hypervisor(server, "serve", PORT="0")
    assert second.returncode == 1
    assert "another server" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_taken_port_is_reported_in_one_line(server: HypervisorServer, tmp_path: Path) -> None:
    second = hypervisor(server, "serve", DATABASE_URL=f"sqlite:///{tmp_path / 'other.db'}")
    assert second.returncode == 1
    assert second.stderr == (
        f"error: cannot listen on 127.0.0.1:{server.port}: Address already in use; "
        "choose another address with --port or --host\n"
    )


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("PORT", "many", "error: PORT: "),
        ("SECRET_KEY", "short", "error: SECRET_KEY: "),
        ("DATABASE_URL", "mysql://x/y", "error: DATABASE_URL: "),
        ("HOST", "0.0.0.0", "error: SECRET_KEY"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(
    tmp_path: Path, setting: str, value: str, message: str
) -> None:
    nowhere = HypervisorServer(tmp_path, 0)
    refused = hypervisor(nowhere, "serve", **{setting: value})
    assert refused.returncode == 1
    assert refused.stderr.startswith(message) or message.removeprefix("error: ") in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "Traceback" not in refused.stderr


def test_a_database_password_is_never_shown(tmp_path: Path) -> None:
    nowhere = HypervisorServer(tmp_path, 0)
    for command in ("serve", "migrate"):
        refused = hypervisor(nowhere, command, DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/nothing")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: the database postgresql://me:***@127.0.0.1:1/nothing cannot")
        assert len(refused.stderr.splitlines()) == 1


def test_ctrl_c_stops_the_server_quietly_with_an_open_stream(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server, Client(server.url) as client:
        client.accounts.register("ada", "ada@example.com", PASSWORD)
        client.accounts.login("ada", PASSWORD)
        organization = client.organizations.create("Team")
        path = f"/organizations/{organization['id']}/events/stream"
        with client._transport.stream(path):
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGINT)
            assert server.process.wait(PROMPT) == 130
        assert "Traceback" not in server.log.read_text()


def test_workloads_continue_while_the_server_is_stopped(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server:
        with Client(server.url) as client:
            client.accounts.register("ada", "ada@example.com", PASSWORD)
            client.accounts.login("ada", PASSWORD)
            client.organizations.create("Team")
            client.clusters.create("lab", {"total_cpu_cores": 1, "total_ram_gb": 1})
            job = client.deployments.create({"name": "long", "command": ["sleep", "300"]})
            client.deployments.wait(job["id"], lambda each: each["status"] == "RUNNING", timeout=PROMPT)
        workload = sleeping(server)
        assert len(workload) == 1

        server.kill()
        server.start()

        with Client(server.url) as client:
            client.accounts.login("ada", PASSWORD)
            assert client.deployments.get(job["id"])["status"] == "RUNNING"
            assert client.deployments.get(job["id"])["attempts_made"] == 1
            assert sleeping(server) == workload
            client.deployments.stop(job["id"])
            client.deployments.wait(job["id"], lambda each: each["status"] == "STOPPED", timeout=PROMPT)


def sleeping(server: HypervisorServer) -> set[int]:
    return {each.pid for each in server.processes() if name_of(each) == "sleep"}


def test_migrate_then_again(tmp_path: Path) -> None:
    nowhere = HypervisorServer(tmp_path, 0)
    assert "was updated from an empty database to" in hypervisor(nowhere, "migrate").stdout
    assert "already" in hypervisor(nowhere, "migrate").stdout


def test_a_superuser_is_created_while_the_server_runs(server: HypervisorServer) -> None:
    flags = ["--username", "root-ada", "--email", "root@example.com"]
    created = hypervisor(server, "create-superuser", *flags, HYPERVISOR_PASSWORD=PASSWORD)
    assert created.returncode == 0, created.stderr
    with Client(server.url) as client:
        client.accounts.login("root-ada", PASSWORD)
        assert client.accounts.me()["is_superuser"] is True

    again = hypervisor(server, "create-superuser", *flags, HYPERVISOR_PASSWORD=PASSWORD)
    assert again.returncode == 1
    assert again.stderr.startswith("error: This username is taken")
    weak = hypervisor(server, "create-superuser", *flags, HYPERVISOR_PASSWORD="short")
    assert weak.returncode == 1
    assert "password" in weak.stderr
