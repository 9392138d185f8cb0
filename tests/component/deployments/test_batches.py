"""Batches: many deployments in one request, all or none."""

from __future__ import annotations

from tests.support.api import ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"
BATCH = f"{DEPLOYMENTS}/batch"


async def test_all_deployments_of_a_batch_are_created(team: Team) -> None:
    cluster = await team.cluster()
    batch = [
        {"name": "report", "depends_on": ["train", {"deployment": "serve", "condition": "running"}]},
        {"name": "train", "depends_on": ["data"], "labels": {"step": "2"}},
        {"name": "data", "kind": "job", "cluster_id": cluster["id"]},
        {"name": "serve", "depends_on": ["train"]},
    ]
    items = ok(await team.developer.post(BATCH, {"deployments": batch}), 201)["items"]
    assert [item["name"] for item in items] == ["report", "train", "data", "serve"]
    assert [item["status"] for item in items] == ["BLOCKED", "BLOCKED", "QUEUED", "BLOCKED"]
    ids = {item["name"]: item["id"] for item in items}
    assert {d["deployment_id"] for d in items[0]["depends_on"]} == {ids["train"], ids["serve"]}
    assert items[1]["reason"] == f"waits for data ({ids['data']}) to succeed; it is QUEUED"
    assert (await team.events(items[3]))[0]["to_state"] == "BLOCKED"


async def test_one_invalid_deployment_refuses_the_whole_batch_and_is_named(team: Team) -> None:
    await team.cluster()
    good = [{"name": f"good{number}"} for number in range(5)]
    for bad, status, code in (
        ({"name": "bad", "required_cpu_cores": 100}, 422, "larger_than_every_node"),
        ({"name": "bad", "cluster_id": 999_999}, 404, "cluster_not_found"),
        ({"name": "bad", "depends_on": ["nothing"]}, 404, "deployment_not_found"),
    ):
        answer = await team.developer.post(BATCH, {"deployments": [*good, bad]})
        problem = refused(answer, status, code)
        assert problem["index"] == 5
        assert "deployments[5] (bad)" in problem["detail"]
    answer = await team.developer.post(BATCH, {"deployments": [*good, {"name": "bad", "priority": "MAX"}]})
    assert "deployments.5.priority" in refused(answer, 422, "invalid_request")["detail"]
    doubled = [{"name": "twin"}, {"name": "twin"}, {"name": "child", "depends_on": ["twin"]}]
    answer = await team.developer.post(BATCH, {"deployments": doubled})
    assert refused(answer, 422, "ambiguous_dependency")["index"] == 2
    refused(await team.developer.post(BATCH, {"deployments": []}), 422, "invalid_request")
    too_many = [{"name": "x"}] * 1001
    refused(await team.developer.post(BATCH, {"deployments": too_many}), 422, "invalid_request")
    assert await team.count_deployments() == 0


async def test_a_thousand_at_once(team: Team) -> None:
    await team.cluster()
    chain = [
        {"name": f"n{number}", "labels": {"set": "big"}, "depends_on": [f"n{number - 1}"] if number else []}
        for number in range(1000)
    ]
    with statements_of(team.api.services.database) as statements:
        items = ok(await team.developer.post(BATCH, {"deployments": chain}), 201)["items"]
    assert len({item["id"] for item in items}) == 1000
    assert sum(item["status"] == "BLOCKED" for item in items) == 999
    assert items[999]["depends_on"][0]["deployment_id"] == items[998]["id"]
    # SQLite inserts row by row; no query is repeated for each row.
    assert len([one for one in statements if one.startswith("SELECT")]) < 100
