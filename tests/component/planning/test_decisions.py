"""Decisions are kept with what was seen, come out again on replay, and are forgotten in time."""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hypervisor.control.scheduler.decision_log import Retention, decide, forget_decisions, store_decision
from hypervisor.control.scheduler.search_budget import FIRST_PACE, SearchBudget
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
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as made:
        yield made


async def kept(world: World) -> list[Decision]:
    async with world.database.read() as session:
        rows = list(await session.scalars(select(Decision).order_by(Decision.id)))
        for row in rows:
            await session.refresh(row, ["snapshot"])
        return rows


async def test_passes_that_change_something_are_kept_and_come_out_again(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        low = await world.submit(cluster, priority=100, **simulated())
        await world.reaches(low, State.RUNNING)
        high = await world.submit(cluster, priority=900, **simulated(0.1))
        await world.reaches(high, State.SUCCEEDED)
        await world.reaches(low, State.RUNNING)
    rows = await kept(world)
    assert sum(row.placements for row in rows) == 3
    assert sum(row.evictions for row in rows) == 1
    for row in rows:
        assert row.placements or row.evictions or row.nominations or row.waiting
        assert row.snapshot_bytes == len(row.snapshot)
        again = replay(row.snapshot, row.snapshot_hash, row.plan_hash)
        assert (again.intact, again.equal) == (True, True)
        assert len(again.plan.placements) == row.placements


async def test_a_cluster_that_asks_for_it_arranges_what_it_places(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=10_000, optimizer_steps=3_000)
    sizes = [{"cpu_milli": cores * 1_000, "ram_mib": 64, **simulated()} for cores in (5, 4, 3, 2, 6)]
    ids = await world.submit_many(cluster, sizes)
    async with world.loops():
        for deployment in ids:
            await world.reaches(deployment, State.RUNNING)
    (row,) = await kept(world)
    assert row.placements == 5
    assert replay(row.snapshot, row.snapshot_hash, row.plan_hash).equal


async def test_steps_that_were_granted_are_kept_with_the_decision(world: World) -> None:
    """Of a million, as many as are known to be done in half a second."""
    cluster = await world.cluster(nodes=2, cpu=10_000, optimizer_steps=1_000_000)
    sizes = [{"cpu_milli": cores * 1_000, "ram_mib": 64, **simulated()} for cores in (5, 4, 3, 2, 6)]
    await world.submit_many(cluster, sizes)
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    pacing = SearchBudget(world.clock, 0.5)
    view = replace(view, policy=pacing.granted(cluster, view.policy))
    made = decide(view, Retention(), pacing.stopwatch(cluster))
    assert made.stored is not None
    _, policy = decode(made.stored.blob)
    assert policy.optimizer_steps == round(0.5 / FIRST_PACE)
    again = replay(made.stored.blob, made.stored.digest, made.plan_hash)
    assert (again.equal, len(again.plan.placements)) == (True, 5)


async def test_a_scheduler_without_the_solver_goes_on_with_the_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await world.cluster(solver="exact", optimizer_steps=3_000)
    monkeypatch.setitem(sys.modules, "ortools", None)
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    assert view.policy.solver == "search"


async def test_a_solver_that_cannot_be_loaded_holds_nobody_up(
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
    made = decide(view, Retention())
    assert len(made.plan.placements) == 1
    assert made.stored is not None
    _, policy = decode(made.stored.blob)
    assert policy.solver == "search"


async def test_nothing_is_kept_without_retention(world: World) -> None:
    cluster = await world.cluster()
    await world.submit(cluster, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    assert decide(view, Retention(hours=0)).stored is None
    assert decide(view, Retention()).stored is not None


async def test_the_old_and_the_too_many_are_forgotten(world: World) -> None:
    cluster = await world.cluster()
    await world.submit(cluster, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    made, now = decide(view, Retention()), world.clock.now()
    for hours in (30, 3, 2, 1):
        async with world.database.write() as session:
            store_decision(session, view, made, epoch=1, now=now - timedelta(hours=hours))
    await forget_decisions(world.database, Retention(hours=24), now)
    rows = await kept(world)
    assert [row.at for row in rows] == [now - timedelta(hours=hours) for hours in (3, 2, 1)]
    await forget_decisions(world.database, Retention(24, 2 * rows[0].snapshot_bytes), now)
    assert [row.id for row in await kept(world)] == [rows[1].id, rows[2].id]


async def test_decisions_are_listed_and_fetched_by_those_who_see_the_cluster(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("work", cluster_id=cluster["id"])
    services, now = team.api.services, team.api.clock.now()
    async with services.database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    for _ in range(3):
        async with services.database.write() as session:
            store_decision(session, view, decide(view, Retention()), epoch=4, now=now)
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


async def test_what_was_seen_on_a_shared_cluster_is_for_superusers(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("work", cluster_id=cluster["id"])
    services, now = team.api.services, team.api.clock.now()
    guest = next(iter(ok(await team.outsider.get("/api/v1/organizations"))["items"]))
    async with services.database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    async with services.database.write() as session:
        store_decision(session, view, decide(view, Retention()), epoch=1, now=now)
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
