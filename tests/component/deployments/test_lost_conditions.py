"""A deployment that waits for room is blocked again when a parent leaves its condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.scheduling.plan import plan
from hypervisor.store.leases import Fence, acquire
from hypervisor.store.tables import Attempt, Deployment, NominationRow
from tests.support.api import ok, refused
from tests.support.statements import statements_of
from tests.support.teams import LEASE, Team

DEPLOYMENTS = "/api/v1/deployments"
Answer = dict[str, Any]
NODE = {"cpu_cores": 4, "ram_gb": 8}


def path(deployment: Answer, rest: str = "") -> str:
    return f"{DEPLOYMENTS}/{deployment['id']}{rest}"


def runs(parent: Answer) -> list[Answer]:
    return [{"deployment": parent["id"], "condition": "running"}]


async def queued_child(team: Team, **parent_fields: Any) -> tuple[Answer, Answer, Answer, Answer]:
    """A running parent with 1 core, a filler with 2, and a child that waits for 2 of the last one."""
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent", **{"required_cpu_cores": 1, **parent_fields})
    filler = await team.running(cluster, "filler", required_cpu_cores=2)
    child = await team.submit("child", required_cpu_cores=2, depends_on=runs(parent))
    await team.schedule(cluster)
    assert child["state"] == "QUEUED"
    return cluster, parent, filler, child


async def never_placed(team: Team, deployment: Answer) -> bool:
    async with team.api.services.database.read() as session:
        query = select(func.count()).where(Attempt.deployment_id == deployment["id"])
        return await session.scalar(query) == 0


async def moves(team: Team, deployment: Answer) -> list[str]:
    return [event["to_state"] for event in await team.events(deployment) if event["to_state"]]


async def _stop(team: Team, cluster: Answer, parent: Answer) -> None:
    await team.command(parent, "stop")


async def _fail_and_retry(team: Team, cluster: Answer, parent: Answer) -> None:
    await team.report(parent, exit_code=1)


async def _drain(team: Team, cluster: Answer, parent: Answer) -> None:
    node = ok(await team.admin.get(f"/api/v1/clusters/{cluster['id']}/nodes"))["items"][0]
    ok(await team.admin.post(f"/api/v1/clusters/{cluster['id']}/nodes/{node['id']}/drain"))


async def _remove_node(team: Team, cluster: Answer, parent: Answer) -> None:
    node = ok(await team.admin.get(f"/api/v1/clusters/{cluster['id']}/nodes"))["items"][0]
    answer = await team.admin.delete(f"/api/v1/clusters/{cluster['id']}/nodes/{node['id']}?force=true")
    assert answer.status_code == 202


async def _preempt(team: Team, cluster: Answer, parent: Answer) -> None:
    await team.submit("urgent", required_cpu_cores=4, priority="CRITICAL")
    await team.schedule(cluster)
    assert (await team.get(parent))["state"] == "STOPPING"


async def _cancel(team: Team, cluster: Answer, parent: Answer) -> None:
    await team.command(parent, "cancel")


WAYS = [_stop, _fail_and_retry, _drain, _remove_node, _preempt, _cancel]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_a_queued_child_goes_back_when_its_parent_no_longer_runs(
    team: Team, leave: Callable[[Team, Answer, Answer], Awaitable[None]]
) -> None:
    cluster, parent, _, child = await queued_child(team, restart_policy="on-failure", max_retries=2)
    await leave(team, cluster, parent)
    blocked = await team.get(child)
    assert (blocked["state"], blocked["queue_position"]) == ("BLOCKED", None)
    assert f"waits for parent ({parent['id']}) to run; it is" in blocked["reason"]
    assert await moves(team, child) == ["QUEUED", "BLOCKED"]
    explained = ok(await team.viewer.get(path(child, "/explain")))
    assert "waits for parent" in explained["sentence"]
    assert explained["dependencies"][0]["status"] in ("waiting", "paused")
    await team.schedule(cluster)
    assert await never_placed(team, child)


async def test_it_goes_on_when_the_condition_is_met_again(team: Team) -> None:
    cluster, parent, filler, child = await queued_child(team)
    await team.command(parent, "stop")
    await team.report(parent, exit_code=143)
    await team.schedule(cluster)
    paused = await team.get(child)
    assert paused["reason"] == f"waits for parent ({parent['id']}) to run; it is STOPPED; start it again"
    await team.command(parent, "start")
    await team.schedule(cluster)
    assert (await team.get(child))["state"] == "BLOCKED"
    await team.report(parent)
    again = await team.get(child)
    assert (again["state"], again["queue_position"], again["created_at"]) == (
        "QUEUED",
        1,
        child["created_at"],
    )
    await team.command(filler, "cancel")
    await team.report(filler, exit_code=143)
    await team.schedule(cluster)
    assert await moves(team, child) == ["QUEUED", "BLOCKED", "QUEUED", "STARTING"]


@pytest.mark.parametrize(("on_failure", "state"), [("cancel", "CANCELLED"), ("hold", "BLOCKED")])
async def test_a_parent_that_fails_ends_or_holds_a_queued_child(
    team: Team, on_failure: str, state: str
) -> None:
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent", restart_policy="never")
    child = await team.submit("child", depends_on=runs(parent), on_failure=on_failure)
    beside = await team.submit("grandchild", depends_on=["child"])
    await team.report(parent, exit_code=1)
    ended = await team.get(child)
    assert (ended["state"], ended["reason_code"]) == (state, "dependency_failed")
    assert await moves(team, child) == ["QUEUED", state]
    assert (await team.get(beside))["state"] == state
    await team.schedule(cluster)
    assert await never_placed(team, child)


async def test_a_succeeded_parent_that_is_started_again_must_succeed_again(team: Team) -> None:
    cluster = await team.cluster()
    done = await team.ended(cluster, "done", 0)
    child = await team.submit("child", depends_on=["done"])
    await team.command(done, "start")
    assert (await team.get(child))["state"] == "BLOCKED"
    await team.schedule(cluster)
    assert await never_placed(team, child)
    await team.report(done)
    await team.report(done, exit_code=0)
    assert (await team.get(child))["state"] == "QUEUED"


async def test_deleting_the_parent_of_a_queued_child_needs_force(team: Team) -> None:
    cluster, parent, _, child = await queued_child(team)
    problem = refused(await team.developer.delete(path(parent)), 409, "has_dependents")
    assert problem["dependents"] == [child["id"]]
    assert (await team.developer.delete(f"{path(parent)}?force=true")).status_code == 202
    assert (await team.get(child))["state"] == "BLOCKED"
    await team.report(parent, exit_code=143)
    seen = await team.get(child)
    assert (seen["state"], seen["reason_code"]) == ("CANCELLED", "dependency_deleted")
    await team.schedule(cluster)
    assert await never_placed(team, child)


async def test_deleting_the_cluster_of_a_parent_cancels_a_child_that_waits_elsewhere(team: Team) -> None:
    here, there = await team.cluster(), await team.cluster()
    parent = await team.running(there, "parent")
    await team.running(here, "filler", required_cpu_cores=4)
    child = await team.submit("child", cluster_id=here["id"], depends_on=runs(parent))
    assert child["state"] == "QUEUED"
    assert (await team.admin.delete(f"/api/v1/clusters/{there['id']}?force=true")).status_code in (202, 204)
    seen = await team.get(child)
    assert (seen["state"], seen["reason_code"]) == ("CANCELLED", "dependency_deleted")
    assert await never_placed(team, child)


async def test_a_chain_and_a_diamond_follow_the_first_parent(team: Team) -> None:
    cluster = await team.cluster()
    first = await team.running(cluster, "first")
    left = await team.running(cluster, "left", depends_on=runs(first))
    right = await team.submit("right", required_cpu_cores=4, depends_on=runs(first))
    last = await team.submit("last", depends_on=[*runs(left), *runs(right)])
    chained = await team.submit("chained", required_cpu_cores=4, depends_on=runs(left))
    assert [one["state"] for one in (right, last, chained)] == ["QUEUED", "BLOCKED", "QUEUED"]
    await team.command(first, "stop")
    states = [(await team.get(one))["state"] for one in (left, right, last, chained)]
    assert states == ["RUNNING", "BLOCKED", "BLOCKED", "QUEUED"]
    await team.command(left, "stop")
    assert (await team.get(chained))["state"] == "BLOCKED"
    await team.report(left, exit_code=143)
    assert (await team.command(left, "start"))["state"] == "BLOCKED"


async def test_a_child_that_runs_goes_on_and_is_checked_when_it_returns_to_the_queue(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent")
    child = await team.running(cluster, "child", depends_on=runs(parent), priority="LOW")
    await team.command(parent, "stop")
    await team.report(parent, exit_code=143)
    assert (await team.get(child))["state"] == "RUNNING"
    await team.submit("urgent", required_cpu_cores=4, priority="CRITICAL")
    await team.schedule(cluster)
    await team.report(child, exit_code=143)
    assert await moves(team, child) == ["QUEUED", "STARTING", "RUNNING", "STOPPING", "QUEUED", "BLOCKED"]
    await team.command(parent, "start")
    assert (await team.get(child))["state"] == "BLOCKED"


async def test_a_gang_that_waits_goes_back_as_a_whole(team: Team) -> None:
    cluster = await team.cluster(nodes=[{"name": "a", **NODE}, {"name": "b", **NODE}])
    parent = await team.running(cluster, "parent", required_cpu_cores=2)
    gang = await team.submit("gang", replicas=2, required_cpu_cores=4, depends_on=runs(parent))
    await team.schedule(cluster)
    assert (await team.get(gang))["state"] == "QUEUED"
    await team.command(parent, "stop")
    await team.report(parent, exit_code=143)
    await team.schedule(cluster)
    assert (await team.get(gang))["state"] == "BLOCKED"
    assert await never_placed(team, gang)


async def test_a_preemptor_that_goes_back_releases_the_capacity_freed_for_it(team: Team) -> None:
    cluster = await team.cluster(nodes=[{"name": "a", **NODE}, {"name": "b", **NODE}])
    victim = await team.running(cluster, "victim", required_cpu_cores=4, priority="LOW")
    parent = await team.running(cluster, "parent", required_cpu_cores=1)
    child = await team.submit("child", required_cpu_cores=4, priority="HIGH", depends_on=runs(parent))
    await team.schedule(cluster)
    assert (await team.get(victim))["state"] == "STOPPING"
    await team.command(parent, "stop")
    async with team.api.services.database.read() as session:
        assert await session.get(NominationRow, (child["id"], 0)) is None
    await team.report(victim, exit_code=143)
    await team.schedule(cluster)
    assert (await team.get(victim))["state"] == "STARTING"
    assert await never_placed(team, child)


async def test_a_child_does_not_evict_its_running_parent(team: Team) -> None:
    """Without the inherited priority it would evict the parent, be blocked, and evict it again."""
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent", required_cpu_cores=2, priority="LOW")
    child = await team.submit("child", required_cpu_cores=4, priority="HIGH", depends_on=runs(parent))
    await team.schedule(cluster)
    assert [(await team.get(one))["state"] for one in (parent, child)] == ["RUNNING", "QUEUED"]
    explained = ok(await team.viewer.get(path(parent, "/explain")))
    assert explained["inherits_from"]["deployment_id"] == child["id"]


async def test_a_child_is_not_placed_by_the_plan_that_evicts_its_parent(team: Team) -> None:
    cluster = await team.cluster(nodes=[{"name": "a", **NODE}, {"name": "b", "cpu_cores": 1, "ram_gb": 8}])
    parent = await team.running(cluster, "parent", required_cpu_cores=2, priority="LOW")
    child = await team.submit("child", required_cpu_cores=1, priority="LOW", depends_on=runs(parent))
    await team.submit("urgent", required_cpu_cores=4, priority="CRITICAL")
    await team.schedule(cluster)
    assert [(await team.get(one))["state"] for one in (parent, child)] == ["STOPPING", "BLOCKED"]
    assert await never_placed(team, child)


async def test_a_commit_checks_the_dependencies_of_a_plan_made_before(team: Team) -> None:
    """Whatever wrote the new state of the parent, and without any write to the child."""
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent")
    child = await team.submit("child", depends_on=runs(parent))
    database, now = team.api.services.database, team.api.clock.now()
    async with database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    async with database.write() as session:
        epoch = await acquire(session, LEASE, "test", now, timedelta(seconds=15))
        await session.execute(update(Deployment).where(Deployment.id == parent["id"]).values(state="STOPPED"))
    assert epoch is not None
    async with database.write() as session:
        result = plan(view.snapshot, view.policy)
        assert [placement.deployment_id for placement in result.placements] == [child["id"]]
        fence = Fence(LEASE, epoch)
        done = await commit_plan(session, view, result, fence=fence, install="abcd", now=now)
    assert (done.rejected, done.started) == ([child["id"]], [])
    assert (await team.get(child))["state"] == "BLOCKED"
    assert await never_placed(team, child)


async def test_a_thousand_children_go_back_in_few_statements(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent", required_cpu_cores=4)
    body = [{"name": f"child-{n}", "depends_on": runs(parent)} for n in range(1000)]
    for start in range(0, 1000, 500):
        ok(await team.developer.post(f"{DEPLOYMENTS}/batch", {"deployments": body[start : start + 500]}), 201)
    with statements_of(team.api.services.database) as statements:
        await team.command(parent, "stop")
    assert len(statements) < 80, len(statements)
    async with team.api.services.database.read() as session:
        states = await session.execute(
            select(Deployment.state, func.count())
            .where(Deployment.name.like("child-%"))
            .group_by(Deployment.state)
        )
        assert [tuple(row) for row in states] == [("BLOCKED", 1000)]
