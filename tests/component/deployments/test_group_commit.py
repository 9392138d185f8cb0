"""Concurrent requests are written in one transaction; each has its own response."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.deployments.spec import idempotency
from hypervisor.store.group_commit import GroupCommit
from tests.support.api import Person, ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team, new_team

DEPLOYMENTS = "/api/v1/deployments"
BATCH = f"{DEPLOYMENTS}/batch"


async def keyed(person: Person, body: Any, key: str) -> httpx2.Response:
    """A submit with an Idempotency-Key."""
    headers = {"Authorization": f"Bearer {person.access_token}", "Idempotency-Key": key}
    return await person.api.http.post(DEPLOYMENTS, json=body, headers=headers)


async def test_a_thousand_requests_create_no_further_groups(team: Team) -> None:
    def groups() -> list[str]:
        gc.collect()  # those of earlier tests
        return sorted(one.name for one in gc.get_objects() if isinstance(one, GroupCommit))

    await team.cluster()
    before, services = groups(), team.api.services
    await asyncio.gather(*(services.logins.submit(f"session-{number}") for number in range(1000)))
    await asyncio.gather(*(team.submit(f"work-{number}") for number in range(20)))
    assert groups() == before
    assert {"logins", "queue positions", "submissions"} <= set(before)


async def test_the_names_of_groups_are_unique(team: Team) -> None:
    async def work(_connection: AsyncConnection, questions: Sequence[int]) -> Sequence[int]:
        return questions

    with pytest.raises(ValueError, match="logins"):
        team.api.services.database.read_group("logins", work)


async def test_a_refusal_does_not_affect_the_rest_of_the_group(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.submit("parent")
    failed = await team.submit("failed")
    await team.command(failed, "cancel")
    others = await new_team(team.api)
    await others.cluster()
    named = {"cluster_id": cluster["id"]}
    answers = await asyncio.gather(
        team.developer.post(DEPLOYMENTS, {"name": "plain"}),
        team.developer.post(DEPLOYMENTS, {"name": "named", "labels": {"a": "b"}, **named}),
        others.developer.post(DEPLOYMENTS, {"name": "elsewhere"}),
        team.developer.post(DEPLOYMENTS, {"name": "child", "depends_on": [parent["id"]]}),
        team.developer.post(BATCH, {"deployments": [{"name": "a"}, {"name": "b", "depends_on": ["a"]}]}),
        team.viewer.post(DEPLOYMENTS, {"name": "forbidden"}),
        others.developer.post(DEPLOYMENTS, {"name": "spy", **named}),
        others.developer.post(DEPLOYMENTS, {"name": "spy", "depends_on": [parent["id"]]}),
        team.developer.post(DEPLOYMENTS, {"name": "huge", "required_cpu_cores": 100_000}),
        team.developer.post(DEPLOYMENTS, {"name": "late", "depends_on": ["failed"]}),
        team.developer.post(BATCH, {"deployments": [{"name": "c"}, {"name": "d", "depends_on": ["?"]}]}),
    )
    plain, named_one, elsewhere, child = (ok(answer, 201) for answer in answers[:4])
    assert [one["name"] for one in (plain, named_one, elsewhere, child)] == [
        "plain",
        "named",
        "elsewhere",
        "child",
    ]
    assert elsewhere["organization_id"] == others.id != plain["organization_id"]
    assert child["depends_on"][0]["deployment_id"] == parent["id"]
    assert [one["status"] for one in ok(answers[4], 201)["items"]] == ["QUEUED", "BLOCKED"]
    codes = (
        (403, "role_too_low"),
        (404, "cluster_not_found"),
        (404, "deployment_not_found"),
        (422, "larger_than_every_node"),
        (409, "dependency_failed"),
        (404, "deployment_not_found"),
    )
    for answer, (status, code) in zip(answers[5:], codes, strict=True):
        refused(answer, status, code)
    seen = ok(await team.viewer.get(f"{DEPLOYMENTS}?limit=100"))["items"]
    assert {one["name"] for one in seen} == {"parent", "failed", "plain", "named", "child", "a", "b"}
    for one in (plain, named_one, elsewhere, child):
        owner = others if one is elsewhere else team
        assert [event["code"] for event in await owner.events(one)] == ["submitted"]


async def test_concurrent_requests_share_a_transaction(team: Team) -> None:
    await team.cluster()
    with statements_of(team.api.services.database) as statements:
        answers = await asyncio.gather(
            *(team.developer.post(DEPLOYMENTS, {"name": f"w{number}"}) for number in range(20))
        )
    assert len({ok(answer, 201)["id"] for answer in answers}) == 20
    assert len([one for one in statements if one.startswith("INSERT INTO deployments")]) < 10


async def test_a_key_is_used_once_within_a_group(team: Team) -> None:
    await team.cluster()
    names = ["one", "one", "two", "two"]
    answers = await asyncio.gather(*(keyed(team.developer, {"name": name}, "k") for name in names))
    (accepted,) = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    seen = ok(await team.viewer.get(DEPLOYMENTS))["items"]
    assert [one["id"] for one in seen] == [accepted]
    for name, answer in zip(names, answers, strict=True):
        if name == seen[0]["name"]:
            assert ok(answer, 201)["id"] == accepted
        else:
            refused(answer, 409, "idempotency_key_reused")


async def test_a_request_that_lost_a_race_returns_the_result_of_the_winner(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    await team.cluster()
    created = ok(await keyed(team.developer, {"name": "one"}, "k"), 201)
    find, turns = idempotency.find, iter([True])

    async def find_too_early(*arguments: Any) -> Any:
        # As if it had read before the other server has committed.
        return {} if next(turns, False) else await find(*arguments)

    monkeypatch.setattr(idempotency, "find", find_too_early)
    again = await keyed(team.developer, {"name": "one"}, "k")
    assert ok(again, 201)["id"] == created["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    seen = ok(await team.viewer.get(DEPLOYMENTS))["items"]
    assert [one["id"] for one in seen] == [created["id"]]
