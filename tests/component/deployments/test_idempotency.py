"""A repeated request with the same Idempotency-Key creates nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from tests.support.api import Person, ok, refused
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"
BATCH = f"{DEPLOYMENTS}/batch"


async def keyed(person: Person, path: str, body: Any, key: str) -> httpx2.Response:
    """A POST with an Idempotency-Key."""
    headers = {"Authorization": f"Bearer {person.access_token}", "Idempotency-Key": key}
    return await person.api.http.post(path, json=body, headers=headers)


async def test_the_same_key_and_body_create_nothing_new(team: Team) -> None:
    await team.cluster()
    body = {"name": "web", "env": {"T": {"value": "s", "secret": True}}}
    first = await keyed(team.developer, DEPLOYMENTS, body, "k1")
    created = ok(first, 201)
    assert "Idempotent-Replayed" not in first.headers
    again = await keyed(team.developer, DEPLOYMENTS, body, "k1")
    assert ok(again, 201) == created
    assert again.headers["Idempotent-Replayed"] == "true"
    for other in ({**body, "name": "other"}, {**body, "env": {"T": {"value": "t", "secret": True}}}):
        refused(await keyed(team.developer, DEPLOYMENTS, other, "k1"), 409, "idempotency_key_reused")
    assert ok(await keyed(team.admin, DEPLOYMENTS, body, "k1"), 201)["id"] != created["id"]
    batch = {"deployments": [body, {"name": "two"}]}
    refused(await keyed(team.developer, BATCH, batch, "k1"), 409, "idempotency_key_reused")
    one = ok(await keyed(team.developer, BATCH, batch, "k2"), 201)
    two = ok(await keyed(team.developer, BATCH, batch, "k2"), 201)
    assert [item["id"] for item in one["items"]] == [item["id"] for item in two["items"]]
    assert await team.count_deployments() == 4


async def test_a_key_of_a_refused_request_can_be_used_again(team: Team) -> None:
    await team.cluster()
    body = {"name": "x", "required_cpu_cores": 100}
    refused(await keyed(team.developer, DEPLOYMENTS, body, "k"), 422, "larger_than_every_node")
    ok(await keyed(team.developer, DEPLOYMENTS, {"name": "x"}, "k"), 201)


async def test_a_key_of_a_deleted_deployment_is_refused(team: Team) -> None:
    await team.cluster()
    created = ok(await keyed(team.developer, DEPLOYMENTS, {"name": "x"}, "k"), 201)
    ok(await team.developer.delete(f"{DEPLOYMENTS}/{created['id']}"), 204)
    refused(await keyed(team.developer, DEPLOYMENTS, {"name": "x"}, "k"), 409, "idempotency_key_gone")


async def test_ten_concurrent_requests_with_one_key_create_one_deployment(team: Team) -> None:
    await team.cluster()
    answers = await asyncio.gather(
        *(keyed(team.developer, DEPLOYMENTS, {"name": "once"}, "same") for _ in range(10))
    )
    assert {ok(answer, 201)["id"] for answer in answers} == {answers[0].json()["id"]}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 9
    assert await team.count_deployments() == 1
