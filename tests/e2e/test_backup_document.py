"""The commands of docs/backup.md, run as printed: what was there before is there again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from anyio.from_thread import BlockingPortal

from hypervisor.cli.commands import backups
from hypervisor.control.maintenance.loop import ORPHAN_GRACE, SWEEP_INTERVAL
from hypervisor.store.migrations.runner import upgrade
from tests.support.documents import ROOT, blocks, commands
from tests.support.people import registered_client
from tests.support.postgres_cluster import ROLE, PostgresCluster, running_cluster
from tests.support.server import HypervisorServer, running_server

PAGE = "docs/backup.md"
BIN = Path(sys.executable).parent
TABLE_OWNERS = (
    "SELECT 1 / (count(*) = 0)::int FROM pg_tables WHERE schemaname = 'public' AND tableowner <> '{}'"
)

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def cluster(portal: BlockingPortal) -> Iterator[PostgresCluster]:
    with running_cluster(portal) as started:
        portal.call(upgrade, started.url)
        yield started


def shell(lines: str, folder: Path, environment: Mapping[str, str], path: str = "") -> str:
    """Run lines of a shell and return their output; an error fails the test."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=folder,
        env={**environment, "PATH": f"{path}{BIN}:{environment['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def program(folder: Path, name: str, script: str) -> None:
    """A program of this name in the folder."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/bash\n{script}\n")
    file.chmod(0o755)


def create_lab(server: HypervisorServer) -> int:
    """The id of a deployment of a new organization."""
    with registered_client(server.url) as ada:
        ada.clusters.create("c", {"runtime": "simulated", "total_cpu_cores": 5, "total_ram_gb": 5})
        created: int = ada.deployments.create({"name": "kept", "labels": {"simulate/log": "x"}})["id"]
        return created


def check_lab(server: HypervisorServer, deployment: int) -> None:
    """Everything is there again, and a new id is far above every old one."""
    with registered_client(server.url, "eve", organization=None) as eve:
        assert eve.organizations.create("second")["id"] > 1_000_000
    assert hypervisor(server, "login", "ada").startswith("Logged in")
    assert f'"id": {deployment}' in hypervisor(server, "--json", "ps", "--all")


def hypervisor(server: HypervisorServer, *arguments: str) -> str:
    environment = server.environment | {
        "HYPERVISOR_PASSWORD": "a long enough password",
        "HYPERVISOR_URL": server.url,
        "HOME": str(server.folder),
    }
    return shell(" ".join(["hypervisor", *arguments]), server.folder, environment)


def test_the_embedded_database(tmp_path: Path) -> None:
    (save,), (restore,) = map(commands, blocks(PAGE, "The embedded database", "console"))
    with running_server(tmp_path / "server", DEFAULT_RUNTIME="simulated") as server:
        kept = create_lab(server)
        saved = shell(save, server.folder, server.environment)
        (printed,) = re.findall(r"^(\S+\.tar\.gz) has 1 deployments, schema", saved, re.MULTILINE)
        with registered_client(server.url, "late", organization="late"):
            server.stop()
        shell(re.sub(r"hypervisor-\d+-\d+\.tar\.gz", printed, restore), server.folder, server.environment)
        server.start()
        check_lab(server, kept)


def test_postgresql(cluster: PostgresCluster, tmp_path: Path) -> None:
    save, restore, finish = ("\n".join(commands(block)) for block in blocks(PAGE, "PostgreSQL", "console"))
    (skip_ids,) = blocks(PAGE, "PostgreSQL", "sql")
    settings = {"DATABASE_URL": cluster.url, "DEFAULT_RUNTIME": "simulated", "SECRET_KEY": "k" * 32}
    with running_server(tmp_path / "server", **settings) as server:
        kept = create_lab(server)
        shell(save, server.folder, server.environment)
        server.stop()
        (server.folder / "skip-ids.sql").write_text(skip_ids)
        superuser = {"PGHOST": "127.0.0.1", "PGPORT": str(cluster.port), "PGUSER": "postgres"}
        shell(restore, server.folder, server.environment | superuser)
        cluster.execute(TABLE_OWNERS.format(ROLE), f"/{ROLE}")
        assert "already at schema" in shell(finish, server.folder, server.environment)
        server.start()
        check_lab(server, kept)


def test_docker_compose(cluster: PostgresCluster, tmp_path: Path) -> None:
    """Without the containers: `docker compose` runs the command that follows the service."""
    save, restore = ("\n".join(commands(block)) for block in blocks(PAGE, "With Docker Compose", "console"))
    (skip_ids,) = blocks(PAGE, "PostgreSQL", "sql")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    in_services = re.findall(r"docker compose (?:exec -T|run --rm) (\S+)", save + restore)
    (stopped,) = re.findall(r"docker compose stop (.*)", restore)
    assert {*in_services, *stopped.split()} <= set(services)
    assert {name for name in services if name.startswith(("api-", "scheduler-"))} == set(stopped.split())
    assert services["postgres"]["environment"]["POSTGRES_USER"] == ROLE
    assert services["migrate"]["command"] == ["migrate"]

    # The image of PostgreSQL makes this role a superuser.
    cluster.execute(f"ALTER ROLE {ROLE} SUPERUSER")
    at = f"PGHOST=127.0.0.1 PGPORT={cluster.port}"
    script = f"""case "$2" in
  exec) shift 4; exec env {at} "$@" ;;
  run) exec hypervisor migrate ;;
esac"""
    program(tmp_path / "bin", "docker", script)
    path = f"{tmp_path / 'bin'}:"
    settings = {"DATABASE_URL": cluster.url, "DEFAULT_RUNTIME": "simulated", "SECRET_KEY": "k" * 32}
    with running_server(tmp_path / "server", **settings) as server:
        kept = create_lab(server)
        shell(save, server.folder, server.environment, path)
        server.stop()
        (server.folder / "skip-ids.sql").write_text(skip_ids)
        shell(restore, server.folder, server.environment, path)
        server.start()
        check_lab(server, kept)


def test_the_nightly_backup(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "The embedded database", "cron")
    path, line = block.splitlines()
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    helper = re.findall(r"install -m 0755 deploy/systemd/hypervisor-as-service (\S+?)/?$", page, re.MULTILINE)
    assert helper[0] in path.removeprefix("PATH=").split(":")
    schedule, user, command = re.fullmatch(r"(\S+ \S+ \* \* \*) +(\S+) +(.*)", line).groups()  # type: ignore[union-attr]
    assert (schedule, user) == ("30 2 * * *", "root")
    # cron ends a command at a percent sign that has no backslash.
    assert not re.search(r"(?<!\\)%", command)
    folder = tmp_path / "backups"
    folder.mkdir()
    script = command.replace(r"\%", "%").replace("/var/backups/hypervisor", str(folder))
    old, recent = folder / "2026-01-01.tar.gz", folder / "2026-01-20.tar.gz"
    for file, days in ((old, 20), (recent, 5)):
        file.touch()
        at = file.stat().st_mtime - days * 86_400
        os.utime(file, (at, at))
    tools = tmp_path / "bin"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def run() -> int:
        return subprocess.run(
            ["sh", "-c", script], env={**environment, "PATH": f"{tools}:{environment['PATH']}"}, check=False
        ).returncode

    program(tools, "hypervisor-as-service", 'test "$1" = backup && touch "$2"')
    program(tools, "mountpoint", "exit 1")
    assert run() != 0
    assert set(folder.iterdir()) == {old, recent}
    program(tools, "mountpoint", f'test "$*" = "-q {folder}"')
    program(tools, "hypervisor-as-service", "exit 1")
    assert run() != 0
    assert set(folder.iterdir()) == {old, recent}
    program(tools, "hypervisor-as-service", 'test "$1" = backup && touch "$2"')
    assert run() == 0
    (new,) = set(folder.iterdir()) - {recent}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\.tar\.gz", new.name)
    assert shutil.which("mountpoint")


def test_page_and_command_line_agree_on_the_end_of_unknown_workloads() -> None:
    """The first sweep follows after one to two intervals, and sweeps are one to two intervals apart."""
    grace, sweep = ORPHAN_GRACE.total_seconds() / 60, SWEEP_INTERVAL / 60
    stated = f"{grace + sweep:.0f} to {grace + 4 * sweep:.0f} minutes"
    assert stated in (ROOT / PAGE).read_text(encoding="utf-8")
    assert stated in Path(backups.__file__).read_text(encoding="utf-8")
