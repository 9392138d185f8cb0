"""Decisions are stored with their snapshot, are the same on replay, and are deleted in time."""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hypervisor.control.scheduler.decision_log import (
    DecisionRetention,
    decide,
    delete_expired_decisions,
    store_decision,
)
from hypervisor.control.scheduler.search_budget import DEFAULT_STEP_SECONDS, SearchBudget
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.decision_codec.encoding import decode
from hypervisor.scheduling.replay import replay
from hypervisor.store.tables import ClusterShare, Decision
from tests.support.api import ok, refused
from tests.support.teams import Team, team_at_rest
from tests.support.world import World, simulated


@pytest.fixture
async def team(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as team:
        yield team


async def stored_decisions(world: World) -> list[Decision]:
    async with world.database.read() as session:
        rows = list(await session.scalars(select(Decision).order_by(Decision.id)))
        for row in rows:
            await session.refresh(row, ["snapshot"])
        return rows


async def test_passes_that_change_something_are_stored_and_replay_equal(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        low = await world.submit(cluster, priority=100, **simulated())
        await world.reaches(low, State.RUNNING)
        high = await world.submit(cluster, priority=900, **simulated(0.1))
        await world.reaches(high, State.SUCCEEDED)
        await world.reaches(low, State.RUNNING)
    rows = await stored_decisions(world)
    assert sum(row.placements for row in rows) == 3
    assert sum(row.evictions for row in rows) == 1
    for row in rows:
        assert row.placements or row.evictions or row.nominations or row.waiting
        assert row.snapshot_bytes == len(row.snapshot)
        again = replay(row.snapshot, row.snapshot_hash, row.plan_hash)
        assert (again.intact, again.equal) == (True, True)
        assert len(again.plan.placements) == row.placements


async def test_a_cluster_with_optimizer_steps_rearranges_its_placements(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=10_000, optimizer_steps=3_000)
    sizes = [{"cpu_milli": cores * 1_000, "ram_mib": 64, **simulated()} for cores in (5, 4, 3, 2, 6)]
    ids = await world.submit_many(cluster, sizes)
    async with world.loops():
        for deployment in ids:
            await world.reaches(deployment, State.RUNNING)
    (row,) = await stored_decisions(world)
    assert row.placements == 5
    assert replay(row.snapshot, row.snapshot_hash, row.plan_hash).equal


async def test_granted_steps_are_stored_with_the_decision(world: World) -> None:
    """Of a million steps, as many as fit in half a second at the measured pace."""
    cluster = await world.cluster(nodes=2, cpu=10_000, optimizer_steps=1_000_000)
    sizes = [{"cpu_milli": cores * 1_000, "ram_mib": 64, **simulated()} for cores in (5, 4, 3, 2, 6)]
    await world.submit_many(cluster, sizes)
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    pacing = SearchBudget(world.clock, 0.5)
    view = replace(view, policy=pacing.limit_steps(cluster, view.policy))
    decision = decide(view, DecisionRetention(), pacing.timer(cluster))
    assert decision.encoded is not None
    _, policy = decode(decision.encoded.blob)
    assert policy.optimizer_steps == round(0.5 / DEFAULT_STEP_SECONDS)
    again = replay(decision.encoded.blob, decision.encoded.digest, decision.plan_hash)
    assert (again.equal, len(again.plan.placements)) == (True, 5)


async def test_a_scheduler_without_the_solver_uses_the_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await world.cluster(solver="exact", optimizer_steps=3_000)
    monkeypatch.setitem(sys.modules, "ortools", None)
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    assert view.policy.solver == "search"


async def test_a_solver_that_cannot_be_loaded_stops_no_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")
    cluster = await world.cluster(solver="exact", optimizer_steps=3_000)
    await world.submit(cluster, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    assert view.policy.solver == "exact"
    for module in ("exact_solver", "cp_model"):
        monkeypatch.delitem(sys.modules, f"hypervisor.scheduling.repacking.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    decision = decide(view, DecisionRetention())
    assert len(decision.plan.placements) == 1
    assert decision.encoded is not None
    _, policy = decode(decision.encoded.blob)
    assert policy.solver == "search"


async def test_nothing_is_stored_without_retention(world: World) -> None:
    cluster = await world.cluster()
    await world.submit(cluster, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    assert decide(view, DecisionRetention(hours=0)).encoded is None
    assert decide(view, DecisionRetention()).encoded is not None


async def test_old_decisions_and_those_over_the_limit_are_deleted(world: World) -> None:
    cluster = await world.cluster()
    await world.submit(cluster, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    decision, now = decide(view, DecisionRetention()), world.clock.now()
    for hours in (30, 3, 2, 1):
        async with world.database.write() as session:
            store_decision(session, view, decision, epoch=1, now=now - timedelta(hours=hours))
    await delete_expired_decisions(world.database, DecisionRetention(hours=24), now)
    rows = await stored_decisions(world)
    assert [row.at for row in rows] == [now - timedelta(hours=hours) for hours in (3, 2, 1)]
    await delete_expired_decisions(world.database, DecisionRetention(24, 2 * rows[0].snapshot_bytes), now)
    assert [row.id for row in await stored_decisions(world)] == [rows[1].id, rows[2].id]


async def test_callers_who_may_read_the_cluster_list_and_fetch_its_decisions(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("work", cluster_id=cluster["id"])
    services, now = team.api.services, team.api.clock.now()
    async with services.database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    for _ in range(3):
        async with services.database.write() as session:
            store_decision(session, view, decide(view, DecisionRetention()), epoch=4, now=now)
    path = f"/api/v1/clusters/{cluster['id']}/decisions"
    page = ok(await team.viewer.get(f"{path}?limit=2"))
    rest = ok(await team.viewer.get(f"{path}?limit=2&cursor={page['next_cursor']}"))
    ids = [one["id"] for one in [*page["items"], *rest["items"]]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3
    one = page["items"][0]
    assert (one["placements"], one["epoch"], one["snapshot"]) == (1, 4, None)
    assert datetime.fromisoformat(one["at"]) == now
    full = ok(await team.viewer.get(f"/api/v1/decisions/{ids[0]}?snapshot=true"))
    again = replay(base64.b64decode(full["snapshot"]), full["snapshot_hash"], full["plan_hash"])
    assert (again.intact, again.equal) == (True, True)
    refused(await team.outsider.get(path), 404, "cluster_not_found")
    refused(await team.outsider.get(f"/api/v1/decisions/{ids[0]}"), 404, "decision_not_found")
    refused(await team.viewer.get("/api/v1/decisions/999999"), 404, "decision_not_found")


async def test_snapshots_of_a_shared_cluster_are_for_superusers(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("work", cluster_id=cluster["id"])
    services, now = team.api.services, team.api.clock.now()
    guest = next(iter(ok(await team.outsider.get("/api/v1/organizations"))["items"]))
    async with services.database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    async with services.database.write() as session:
        store_decision(session, view, decide(view, DecisionRetention()), epoch=1, now=now)
        session.add(
            ClusterShare(
                cluster_id=cluster["id"], organization_id=guest["id"], state="accepted", offered_at=now
            )
        )
    listed = f"/api/v1/clusters/{cluster['id']}/decisions"
    (one,) = ok(await team.viewer.get(listed))["items"]
    path = f"/api/v1/decisions/{one['id']}"
    assert ok(await team.viewer.get(path))["placements"] == 1
    refused(await team.admin.get(f"{path}?snapshot=true"), 403, "cluster_is_shared")
    assert ok(await (await team.api.superuser()).get(f"{path}?snapshot=true"))["snapshot"]
    refused(await team.outsider.get(listed), 404, "cluster_not_found")
    refused(await team.outsider.get(path), 404, "decision_not_found")
