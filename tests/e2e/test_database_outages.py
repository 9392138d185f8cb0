"""What can happen to PostgreSQL under a real server: 503, never 500, and back without a restart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import BlockingPortal

from hypervisor.store.migrations.runner import upgrade
from tests.support.people import PASSWORD, registered_client
from tests.support.postgres_cluster import ROLE, PostgresCluster, running_cluster
from tests.support.server import HypervisorServer, running_server
from tests.support.wait import eventually_sync

pytestmark = pytest.mark.timeout(200)

Action = Callable[[PostgresCluster], None]


@pytest.fixture(scope="module")
def cluster(portal: BlockingPortal) -> Iterator[PostgresCluster]:
    with running_cluster(portal, wal_level="replica", hot_standby="on") as started:
        portal.call(upgrade, started.url)
        yield started


@pytest.fixture(scope="module")
def server(cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HypervisorServer]:
    settings = {"DATABASE_URL": cluster.url, "DEFAULT_RUNTIME": "simulated", "LEASE_SECONDS": "3"}
    with running_server(tmp_path_factory.mktemp("server"), **settings) as started:
        with registered_client(started.url) as ada:
            ada.clusters.create("c", {"runtime": "simulated", "total_cpu_cores": 5, "total_ram_gb": 5})
        yield started


@pytest.fixture(scope="module")
def http(server: HypervisorServer) -> Iterator[httpx2.Client]:
    """A client of the user, with a token from before the outage."""
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        form = {"username": "ada", "password": PASSWORD}
        token = client.post("/api/v1/auth/login", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def submit(http: httpx2.Client) -> httpx2.Response:
    return http.post(
        "/api/v1/deployments",
        json={"name": "d", "kind": "job", "required_cpu_cores": 0.1, "required_ram_gb": 0.1},
    )


def rename(http: httpx2.Client) -> httpx2.Response:
    return http.patch("/api/v1/organizations/1", json={"name": "lab"})


def read(http: httpx2.Client) -> httpx2.Response:
    return http.get("/api/v1/deployments")


def refused(response: httpx2.Response, *codes: str) -> dict[str, Any]:
    """The problem of a response with status 503, one of these codes, and a time to wait."""
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    problem: dict[str, Any] = response.json()
    assert problem["code"] in codes
    return problem


def tracebacks(server: HypervisorServer) -> list[str]:
    lines = (line for line in server.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if json.loads(line)["event"] == "request.failed"]


def make_read_only(cluster: PostgresCluster) -> None:
    cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    cluster.execute("SELECT pg_reload_conf()")


def make_writable(cluster: PostgresCluster) -> None:
    cluster.execute("ALTER SYSTEM RESET default_transaction_read_only")
    cluster.execute("SELECT pg_reload_conf()")


def alter_role(change: str) -> Action:
    """A change of the server's role, which only new sessions see."""

    def change_role(cluster: PostgresCluster) -> None:
        cluster.execute(f"ALTER ROLE {ROLE} {change}")
        cluster.end_sessions()

    return change_role


AWAY = ("database_unavailable",)
READ_ONLY = ("database_read_only",)


@pytest.mark.parametrize(
    ("begin", "end", "codes", "can_read"),
    [
        (make_read_only, make_writable, READ_ONLY, True),
        (
            alter_role("SET default_transaction_read_only = on"),
            # The old sessions stay read-only: the server must give them up by itself.
            lambda cluster: cluster.execute(f"ALTER ROLE {ROLE} RESET default_transaction_read_only"),
            READ_ONLY,
            True,
        ),
        (PostgresCluster.become_standby, PostgresCluster.become_primary, READ_ONLY, True),
        (alter_role("CONNECTION LIMIT 0"), alter_role("CONNECTION LIMIT -1"), AWAY, False),
        (alter_role("NOLOGIN"), alter_role("LOGIN"), AWAY, False),
        (PostgresCluster.stop, PostgresCluster.start, AWAY, False),
        (lambda cluster: cluster.stop(signal.SIGQUIT), PostgresCluster.start, AWAY, False),
    ],
    ids=["read-only", "read-only role", "standby", "no connections left", "no login", "stopped", "crashed"],
)
def test_an_outage_is_a_503_and_ends_without_a_restart(
    cluster: PostgresCluster,
    server: HypervisorServer,
    http: httpx2.Client,
    begin: Action,
    end: Action,
    codes: tuple[str, ...],
    can_read: bool,
) -> None:
    assert server.process is not None
    pid = server.process.pid
    begin(cluster)
    try:
        # An ended session may be the first sign, before the reason shows.
        eventually_sync(lambda: http.get("/readyz").json().get("code") in codes)
        refused(submit(http), *codes)
        refused(rename(http), *codes)
        if not can_read:
            refused(read(http), *codes)
        problem = refused(http.get("/readyz"), *codes)
        assert [check["name"] for check in problem["checks"] if not check["ok"]] == ["database"]
        assert http.get("/healthz").status_code == 200
    finally:
        end(cluster)
    eventually_sync(lambda: http.get("/readyz").status_code == 200)
    assert submit(http).status_code == 201
    assert rename(http).status_code == 200
    assert server.process.pid == pid
    assert server.process.poll() is None
    assert tracebacks(server) == []


def test_ended_sessions_and_a_killed_backend_cost_at_most_one_request(
    cluster: PostgresCluster, server: HypervisorServer, http: httpx2.Client
) -> None:
    for end_them in (PostgresCluster.end_sessions, PostgresCluster.crash):
        end_them(cluster)
        for send in (submit, read, rename):
            response = send(http)
            if response.status_code >= 400:
                refused(response, *AWAY)
        eventually_sync(lambda: submit(http).status_code == 201)
    assert tracebacks(server) == []


@contextmanager
def locked_table(cluster: PostgresCluster) -> Iterator[None]:
    """Another session that holds an exclusive lock on the deployments."""
    lock = "BEGIN; LOCK TABLE deployments IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60); COMMIT"
    locking = threading.Thread(target=_ignoring_the_end, args=(cluster, lock))
    locking.start()
    waiting = (
        "SELECT 1 / count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND wait_event = 'PgSleep'"
    )
    eventually_sync(lambda: _succeeds(cluster, waiting))
    try:
        yield
    finally:
        cluster.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
        )
        locking.join()


def _ignoring_the_end(cluster: PostgresCluster, statement: str) -> None:
    _succeeds(cluster, statement, f"/{ROLE}")


def _succeeds(cluster: PostgresCluster, statement: str, database: str = "/postgres") -> bool:
    try:
        cluster.execute(statement, database)
    except Exception:
        return False
    return True


def test_a_lock_and_a_lost_connection_are_different_answers(
    cluster: PostgresCluster, server: HypervisorServer, http: httpx2.Client
) -> None:
    with locked_table(cluster):
        refused(submit(http), "database_busy")
        responses: list[httpx2.Response] = []
        waiting = threading.Thread(target=lambda: responses.append(submit(http)))
        waiting.start()
        blocked = (
            f"SELECT 1 / count(*) FROM pg_stat_activity WHERE usename = '{ROLE}' AND wait_event_type = 'Lock'"
        )
        eventually_sync(lambda: _succeeds(cluster, blocked))
        cluster.end_sessions()
        waiting.join()
        assert "same Idempotency-Key" in refused(responses[0], *AWAY)["detail"]
    eventually_sync(lambda: submit(http).status_code == 201)
    assert tracebacks(server) == []


def test_a_full_disk_of_the_database_is_named(
    cluster: PostgresCluster, server: HypervisorServer, http: httpx2.Client
) -> None:
    function = (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END$$"
    )
    cluster.execute(function, f"/{ROLE}")
    cluster.execute("CREATE TRIGGER fail BEFORE INSERT ON deployments EXECUTE FUNCTION fail()", f"/{ROLE}")
    try:
        response = submit(http)
        assert (response.status_code, response.json()["code"]) == (507, "disk_full")
        assert int(response.headers["retry-after"]) >= 1
    finally:
        cluster.execute("DROP FUNCTION fail CASCADE", f"/{ROLE}")
    assert submit(http).status_code == 201


def test_the_command_line_shows_an_outage_in_one_line(
    cluster: PostgresCluster, server: HypervisorServer, tmp_path: Path
) -> None:
    def hypervisor(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hypervisor", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=server.environment | {"HOME": str(tmp_path), "HYPERVISOR_PASSWORD": PASSWORD},
            cwd=tmp_path,
        )

    logged_in = hypervisor("login", "ada", "--url", server.url)
    assert logged_in.returncode == 0, logged_in.stderr
    cluster.stop()
    try:
        failed = hypervisor("ps")
        migrated = hypervisor("migrate")
    finally:
        cluster.start()
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: The database cannot be reached now. ")
    assert "Try again in 5 s" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert migrated.stderr.startswith(f"error: the database postgresql://{ROLE}@127.0.0.1:{cluster.port}/")
    assert len(migrated.stderr.splitlines()) == 1
    eventually_sync(server.answers)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_in_utf8_is_refused(
    cluster: PostgresCluster, tmp_path: Path, encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    cluster.execute(f"CREATE DATABASE {name} OWNER {ROLE} ENCODING '{encoding}' TEMPLATE template0")
    environment = HypervisorServer(
        tmp_path, 0, {"DATABASE_URL": f"{cluster.url.removesuffix(ROLE)}{name}"}
    ).environment
    for command in ("migrate", "serve", "doctor"):
        done = subprocess.run(
            [sys.executable, "-m", "hypervisor", command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment | {"COLUMNS": "400"},
            cwd=tmp_path,
        )
        assert done.returncode == 1
        output = done.stderr if command != "doctor" else done.stdout
        assert f"the database {name} has the encoding {encoding}" in output
        assert "createdb --encoding=UTF8 --template=template0 NAME" in output
        assert "Traceback" not in done.stderr
