"""Readiness names the failed check and the remedy; liveness does not depend on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from hypervisor.api.readiness import Readiness
from hypervisor.infra.observability.heartbeats import Heartbeats
from hypervisor.store.database import Database
from hypervisor.store.migrations import runner
from tests.support.api import Api, ok, refused
from tests.support.clock import FakeClock

UNREACHABLE = "postgresql://nobody:hunter2@127.0.0.1:1/nothing"


def by_name(body: dict[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in body["checks"]}


async def test_every_check_is_shown(sqlite_api: Api) -> None:
    body = ok(await sqlite_api.http.get("/readyz"))
    assert body["status"] == "ok"
    assert by_name(body) == {"serving": True, "database": True, "schema": True, "loops": True}


async def test_without_its_database_the_server_is_alive_but_not_ready(sqlite_api: Api) -> None:
    unreachable, before = Database(UNREACHABLE), sqlite_api.services
    readiness = Readiness(unreachable, FakeClock(), Heartbeats(FakeClock()), before.stopping)
    sqlite_api.app.state.services = replace(before, readiness=readiness)
    try:
        problem = refused(await sqlite_api.http.get("/readyz"), 503, "database_unavailable")
        assert by_name(problem) == {"serving": True, "database": False, "loops": True}
        assert "DATABASE_URL" in problem["detail"]
        assert "hunter2" not in str(problem)
        ok(await sqlite_api.http.get("/healthz"))
        assert 'hypervisor_ready{check="database"} 0.0' in (await sqlite_api.http.get("/metrics")).text
    finally:
        sqlite_api.app.state.services = before
        await unreachable.close()


@pytest.mark.parametrize(("revision", "ready"), [("0001", False), ("9999", True)])
async def test_a_schema_may_be_ahead_but_not_behind(
    api: Api, revision: str, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_migrations", lambda: (("0001", None), ("0002", "0001")))
    async with api.services.database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
    answer = await api.http.get("/readyz")
    if ready:
        assert "newer than this program" in str(ok(answer))
    else:
        assert "hypervisor migrate" in refused(answer, 503, "schema_outdated")["detail"]


async def test_a_loop_without_a_heartbeat_is_named(sqlite_url: str) -> None:
    clock = FakeClock()
    heartbeats, database = Heartbeats(clock), Database(sqlite_url)
    readiness = Readiness(database, FakeClock(), heartbeats, asyncio.Event())
    heartbeats.expect("leases", within=30)
    heartbeats.expect("reconciler", within=100)
    clock.advance(31)
    loops = (await readiness.check())[-1]
    assert (loops.name, loops.ok) == ("loops", False)
    assert "leases for 31 s" in loops.detail
    assert "reconciler" not in loops.detail
    heartbeats.beat("leases")
    assert (await readiness.check())[-1].ok
    clock.advance(80)
    heartbeats.forget("leases")
    heartbeats.beat("reconciler")
    assert (await readiness.check())[-1].ok
    await database.close()


async def test_concurrent_callers_share_one_check(sqlite_api: Api) -> None:
    readiness = sqlite_api.services.readiness
    answers = await asyncio.gather(*(readiness.check() for _ in range(20)))
    assert all(answer is answers[0] for answer in answers)
