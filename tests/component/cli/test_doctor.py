"""`hypervisor doctor` reports problems with advice, changes nothing, and never prints a traceback."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from hypervisor.cli.doctor.database import check_clock
from hypervisor.cli.main import run
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.store.database import Database
from hypervisor.store.file_lock import sole_server
from hypervisor.store.migrations.runner import head_revision
from hypervisor.store.tables import Cluster, Event, Invite, Node, Organization, Server
from tests.support.releases import move_to, previous_revision
from tests.support.servers import free_port

KEY = "a key of this test with 32 characters"


@dataclass
class Report:
    code: int
    data: Any
    error: str

    def of(self, check: str) -> list[dict[str, str]]:
        return [finding for finding in self.data["findings"] if finding["check"] == check]

    def not_ok(self) -> list[dict[str, str]]:
        return [finding for finding in self.data["findings"] if finding["status"] != "ok"]


Doctor = Callable[..., Report]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs `hypervisor doctor --json` with these settings, without any other service."""

    def call(**settings: str | None) -> Report:
        defaults = {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'none.db'}",
            "DATA_DIR": str(tmp_path / "data"),
            "DOCKER_HOST": f"unix://{tmp_path / 'no.sock'}",
            "DISK_MIN_FREE_MB": "0",
            "PORT": str(free_port()),
            "SECRET_KEY": KEY,
        }
        with monkeypatch.context() as context:
            for name in ("HOST", "REDIS_URL", "ROLE", "PUBLIC_URL", "DEFAULT_RUNTIME", "SECRET_KEY"):
                context.delenv(name, raising=False)
            for name, value in (defaults | settings).items():
                if value is not None:
                    context.setenv(name, value)
            context.chdir(tmp_path)
            code = run(["--json", "doctor"])
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        return Report(code, json.loads(output.out), output.err)

    return call


def test_before_the_first_start_there_are_no_problems_and_no_files(doctor: Doctor, tmp_path: Path) -> None:
    report = doctor()
    assert (report.code, report.not_ok(), report.data["healthy"]) == (0, [], True)
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_database_has_no_problems(doctor: Doctor, database_url: str) -> None:
    report = doctor(DATABASE_URL=database_url)
    assert (report.code, report.not_ok()) == (0, [])
    assert "responds, schema" in report.of("database")[0]["detail"]
    assert bool(report.of("clock")) == database_url.startswith("postgresql")


@pytest.mark.parametrize(
    ("settings", "check", "text"),
    [
        ({"PORT": "many"}, "configuration", "PORT: "),
        ({"DATABASE_URL": "mysql://x/y"}, "configuration", "'mysql' is not supported"),
        ({"ROLE": "api"}, "configuration", "only one process can use"),
        (
            {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x"},
            "database",
            "postgresql://me:***@127.0.0.1:1",
        ),
        ({"REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}, "redis", "does not respond"),
        ({"REDIS_URL": "nonsense"}, "redis", "not the URL"),
        ({"DEFAULT_RUNTIME": "docker"}, "engines", "docker: "),
        ({"DISK_MIN_FREE_MB": "1000000000"}, "disk", "no new process starts"),
        ({"DATA_DIR": "/proc/version/x"}, "data folder", "cannot write to"),
    ],
)
def test_problems_are_reported(doctor: Doctor, settings: dict[str, str], check: str, text: str) -> None:
    report = doctor(**settings)
    assert report.code == 1
    problems = [finding for finding in report.of(check) if finding["status"] == "problem"]
    assert any(text in problem["detail"] for problem in problems), report.data["findings"]
    assert "hunter2" not in json.dumps(report.data)


def test_a_server_that_other_machines_reach_needs_a_key(doctor: Doctor) -> None:
    report = doctor(HOST="0.0.0.0", SECRET_KEY=None)
    assert report.code == 1
    assert {(finding["check"], finding["status"]) for finding in report.not_ok()} == {
        ("secret key", "problem"),
        ("configuration", "warning"),
    }
    assert "openssl rand -hex 32" in report.of("secret key")[0]["advice"]


def test_a_key_file_that_others_can_read_is_reported(doctor: Doctor, tmp_path: Path) -> None:
    key = tmp_path / "data" / "secret.key"
    key.parent.mkdir()
    key.write_text("k" * 64)
    key.chmod(0o644)
    report = doctor(SECRET_KEY=None)
    assert (report.code, [finding["advice"] for finding in report.not_ok()]) == (0, [f"chmod 600 {key}"])
    key.chmod(0o600)
    assert doctor(SECRET_KEY=None).not_ok() == []


async def _change(url: str, *work: Any) -> None:
    database = Database(url)
    try:
        async with database.write() as session:
            for statement in work:
                if callable(statement):
                    await statement(session)
                else:
                    await session.execute(statement)
    finally:
        await database.close()


def _fill(url: str, key: str, at: datetime) -> None:
    """Add an organization with an invite that is encrypted with a key, and an event."""

    async def fill(session: Any) -> None:
        now = datetime.now(UTC)
        organization = Organization(name="o", name_normalized="o", created_at=now)
        session.add(organization)
        await session.flush()
        encrypted = Encryptor(key.encode()).encrypt("code", "invite")
        session.add(
            Invite(
                organization_id=organization.id,
                code_hash="h",
                code_encrypted=encrypted,
                role="viewer",
                created_at=now,
            )
        )
        session.add(Event(organization_id=organization.id, at=at, actor="test", type="test", message=""))

    asyncio.run(_change(url, fill))


def test_a_changed_key_and_a_clock_that_was_set_back_are_reported(doctor: Doctor, database_url: str) -> None:
    now = datetime.now(UTC)
    _fill(database_url, KEY, now)
    assert doctor(DATABASE_URL=database_url).not_ok() == []
    other = doctor(DATABASE_URL=database_url, SECRET_KEY=KEY[::-1])
    assert other.code == 1
    (found,) = other.not_ok()
    assert (found["check"], found["advice"][:14]) == ("secret key", "set the SECRET")

    asyncio.run(_change(database_url, update(Event).values(at=now + timedelta(hours=1))))
    (found,) = doctor(DATABASE_URL=database_url).not_ok()
    assert (found["check"], "set back" in found["advice"]) == ("clock", True)


def test_an_installation_without_a_scheduler_is_reported(doctor: Doctor, database_url: str) -> None:
    now = datetime.now(UTC)
    asyncio.run(_change(database_url, _add_node))
    dead = {"name": "m", "host": "h", "started_at": now, "expires_at": now - timedelta(hours=1)}
    asyncio.run(_change(database_url, insert(Server).values(dead)))
    reported = [
        (finding["check"], finding["status"]) for finding in doctor(DATABASE_URL=database_url).not_ok()
    ]
    # With SQLite the server is the scheduler, and the server has a separate check.
    assert reported == ([] if database_url.startswith("sqlite") else [("schedulers", "warning")])
    asyncio.run(_change(database_url, update(Server).values(expires_at=now + timedelta(hours=1))))
    assert doctor(DATABASE_URL=database_url).not_ok() == []


async def _add_node(session: Any) -> None:
    now = datetime.now(UTC)
    organization = Organization(name="o", name_normalized="o", created_at=now)
    session.add(organization)
    await session.flush()
    runtime = {"runtime": "simulated", "resolved_runtime": "simulated"}
    cluster = Cluster(organization_id=organization.id, name="c", created_at=now, **runtime)
    session.add(cluster)
    await session.flush()
    session.add(Node(cluster_id=cluster.id, name="n", cpu_milli=1000, ram_mib=1024, created_at=now))


@pytest.mark.skipif(previous_revision() == head_revision(), reason="no release has an older schema yet")
def test_an_old_schema_is_reported_with_advice(doctor: Doctor, database_url: str) -> None:
    asyncio.run(move_to(database_url, previous_revision(), down=True))
    report = doctor(DATABASE_URL=database_url)
    (found,) = report.not_ok()
    if database_url.startswith("sqlite"):
        assert (report.code, found["status"]) == (0, "warning")
        assert "hypervisor backup" in found["advice"]
    else:
        assert (report.code, found["status"]) == (1, "problem")
        assert found["advice"] == "run `hypervisor migrate`"


def test_a_damaged_database_is_reported(doctor: Doctor, sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(3 * page)
        file.write(b"\xff" * page * 4)
    report = doctor(DATABASE_URL=sqlite_url)
    assert report.code == 1
    assert {finding["check"] for finding in report.not_ok()} == {"database"}


def test_a_server_that_holds_the_file_but_does_not_respond_is_reported(
    doctor: Doctor, sqlite_url: str
) -> None:
    with sole_server(sqlite_url):
        report = doctor(DATABASE_URL=sqlite_url)
    (found,) = report.not_ok()
    assert (found["check"], "no server responds" in found["detail"]) == ("server", True)
    assert doctor(DATABASE_URL=sqlite_url).not_ok() == []


def test_the_clock_of_redis_is_checked(doctor: Doctor, redis_url: str) -> None:
    report = doctor(REDIS_URL=redis_url)
    assert report.code == 0
    assert report.of("redis")[0]["status"] == "ok"
    assert "the clock of Redis" in report.of("clock")[0]["detail"]


@pytest.mark.parametrize(("seconds", "status"), [(0.4, "ok"), (-3, "warning"), (3600, "problem")])
def test_a_clock_difference_has_a_status_by_its_size(seconds: float, status: str) -> None:
    found = check_clock(timedelta(seconds=seconds), "the clock of the database")
    assert found.status == status
    assert bool(found.advice) == (status != "ok")


def test_traces_without_their_packages_are_a_problem(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
    (finding,) = report.of("configuration")
    assert finding["status"] == "problem"
    assert "mlops-hypervisor[telemetry]" in finding["advice"]
