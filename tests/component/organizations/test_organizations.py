"""Organizations: create, list, rename, delete, and their isolation."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import select

from hypervisor.api.services import AppServices
from hypervisor.store.tables import Cluster, Deployment, Event
from tests.support.api import Api, ok, problem_body, refused
from tests.support.databases import ON_SQLITE

ORGANIZATIONS = "/api/v1/organizations"


async def test_the_creator_becomes_admin(api: Api) -> None:
    ada = await api.person()
    created = ok(await ada.post(ORGANIZATIONS, {"name": "  Vision  "}), 201)
    assert created["name"] == "Vision"
    assert created["role"] == "admin"
    assert ok(await ada.get(f"{ORGANIZATIONS}/{created['id']}")) == created
    (member,) = ok(await ada.get(f"{ORGANIZATIONS}/{created['id']}/members"))["items"]
    assert (member["user_id"], member["username"], member["role"]) == (ada.id, ada.username, "admin")


@ON_SQLITE
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"name": "nul\0"},
        {"name": "Vision", "role": "admin"},
        {"name": "Vision", "id": 1},
        {"name": 7},
        [],
        None,
    ],
)
async def test_creation_refuses_invalid_bodies(api: Api, body: object) -> None:
    ada = await api.person()
    problem = refused(await ada.post(ORGANIZATIONS, body), 422, "invalid_request")
    assert problem["errors"]


async def test_names_are_unique_without_regard_to_case(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    await ada.organization("Vision")
    mine = await bob.organization("Speech")
    refused(await bob.post(ORGANIZATIONS, {"name": "VISION"}), 409, "organization_name_taken")
    taken = await bob.patch(f"{ORGANIZATIONS}/{mine}", {"name": "vision"})
    refused(taken, 409, "organization_name_taken")
    ok(await bob.patch(f"{ORGANIZATIONS}/{mine}", {"name": "SPEECH"}))


async def test_of_simultaneous_creations_with_one_name_one_succeeds(api: Api) -> None:
    ada = await api.person()
    answers = await asyncio.gather(*(ada.post(ORGANIZATIONS, {"name": "Vision"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_the_list_has_the_callers_organizations_in_pages(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    await bob.organization()
    mine = [await ada.organization() for _ in range(5)]

    seen: list[int] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = ok(await ada.get(ORGANIZATIONS, params=query))
        assert len(page["items"]) <= 2
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == mine


@pytest.mark.parametrize("cursor", ["x", "!", "AAAA", "bnVsbA", "WyJhIl0", "W3RydWVd", "W10"])
async def test_an_invented_cursor_is_refused(sqlite_api: Api, cursor: str) -> None:
    ada = await sqlite_api.person()
    refused(await ada.get(ORGANIZATIONS, params={"cursor": cursor}), 422, "invalid_cursor")


@pytest.mark.parametrize("limit", [0, 101, -1])
async def test_pages_are_bounded(sqlite_api: Api, limit: int) -> None:
    ada = await sqlite_api.person()
    problem = refused(await ada.get(ORGANIZATIONS, params={"limit": limit}), 422, "invalid_request")
    assert problem["detail"].startswith("limit: ")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_admins_rename(api: Api, method: str) -> None:
    ada = await api.person()
    organization = await ada.organization("Vision")
    path = f"{ORGANIZATIONS}/{organization}"
    assert ok(await ada.call(method, path, json={"name": "Sight"}))["name"] == "Sight"
    assert ok(await ada.call(method, path, json={}))["name"] == "Sight"
    assert ok(await ada.get(path))["name"] == "Sight"


async def test_a_foreign_organization_does_not_exist(api: Api) -> None:
    ada, eve = await api.person(), await api.person()
    foreign = await ada.organization("Secret plans")
    nowhere = foreign + 1000

    for method, below, body in [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/invite-code", None),
        ("POST", "/regenerate-invite", {}),
        ("GET", "/members", None),
        ("PATCH", f"/members/{ada.id}", {"role": "viewer"}),
        ("DELETE", f"/members/{ada.id}", None),
        ("DELETE", f"/members/{eve.id}", None),
    ]:
        theirs = await eve.call(method, f"{ORGANIZATIONS}/{foreign}{below}", json=body)
        missing = await eve.call(method, f"{ORGANIZATIONS}/{nowhere}{below}", json=body)
        assert theirs.status_code == missing.status_code == 404, (method, below)
        foreign_calls = json.dumps(problem_body(missing)).replace(str(nowhere), str(foreign))
        assert json.dumps(problem_body(theirs)) == foreign_calls
        assert "Secret" not in theirs.text

    assert ok(await eve.get(ORGANIZATIONS))["items"] == []


async def test_a_superuser_sees_and_does_everything(api: Api) -> None:
    ada, root = await api.person(), await api.superuser()
    organization = await ada.organization("Vision")
    path = f"{ORGANIZATIONS}/{organization}"
    assert [one["id"] for one in ok(await root.get(ORGANIZATIONS))["items"]] == [organization]
    assert ok(await root.get(path))["role"] == "admin"
    assert ok(await root.get(f"{path}/invite-code"))["invite_code"]
    ok(await root.patch(path, {"name": "Sight"}))
    ok(await root.delete(path), 204)
    assert (await ada.get(path)).status_code == 404


async def test_an_idle_organization_is_deleted_at_once(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    await _deployment(api.services, organization, state="QUEUED")
    ok(await ada.delete(f"{ORGANIZATIONS}/{organization}"), 204)
    assert (await ada.get(f"{ORGANIZATIONS}/{organization}")).status_code == 404
    assert ok(await ada.get("/api/v1/auth/me"))["organizations"] == []


@pytest.mark.parametrize("state", ["STARTING", "RUNNING", "STOPPING"])
async def test_deletion_needs_force_while_deployments_run(api: Api, state: str) -> None:
    ada = await api.person()
    organization = await ada.organization()
    await _deployment(api.services, organization, state=state)
    bob, code = await api.person(), await ada.invite(organization)
    path = f"{ORGANIZATIONS}/{organization}"

    assert refused(await ada.delete(path), 409, "organization_busy")["running"] == 1
    ok(await ada.delete(f"{path}?force=true"), 202)

    # An organization in deletion accepts no new members and no changes.
    answer = await bob.join(code)
    assert answer.status_code == 404
    assert (await ada.patch(path, {"name": "New"})).status_code in (404, 409)


@pytest.mark.parametrize("role", ["developer", "viewer"])
async def test_only_admins_rename_delete_and_invite(api: Api, role: str) -> None:
    ada = await api.person()
    organization = await ada.organization()
    member = await api.member(ada, organization, role)
    path = f"{ORGANIZATIONS}/{organization}"

    assert ok(await member.get(path))["role"] == role
    ok(await member.get(f"{path}/members"))
    for answer in (
        await member.patch(path, {"name": "Mine"}),
        await member.delete(path),
        await member.get(f"{path}/invite-code"),
        await member.post(f"{path}/regenerate-invite", {}),
        await member.patch(f"{path}/members/{member.id}", {"role": "admin"}),
        await member.delete(f"{path}/members/{ada.id}"),
    ):
        assert role in refused(answer, 403, "role_too_low")["detail"]


async def test_events_name_the_actor(api: Api) -> None:
    ada = await api.person("ada")
    organization = await ada.organization("Vision")
    bob = await api.member(ada, organization, "viewer")
    path = f"{ORGANIZATIONS}/{organization}"
    ok(await ada.patch(path, {"name": "Sight"}))
    ok(await ada.patch(f"{path}/members/{bob.id}", {"role": "developer"}))
    ok(await bob.delete(f"{path}/members/{bob.id}"), 204)

    async with api.services.database.read() as session:
        rows = await session.execute(select(Event.type, Event.actor).order_by(Event.id))
        events = [(row.type, row.actor) for row in rows]

    assert events == [
        ("organization.created", f"user:{ada.id}"),
        ("invite.created", f"user:{ada.id}"),
        ("invite.created", f"user:{ada.id}"),
        ("member.joined", f"user:{bob.id}"),
        ("organization.renamed", f"user:{ada.id}"),
        ("member.role_changed", f"user:{ada.id}"),
        ("member.left", f"user:{bob.id}"),
    ]


async def _deployment(services: AppServices, organization_id: int, *, state: str) -> None:
    now = services.clock.now()
    async with services.database.write() as session:
        cluster = Cluster(
            organization_id=organization_id,
            name="cluster",
            runtime="simulated",
            resolved_runtime="simulated",
            created_at=now,
        )
        session.add(cluster)
        await session.flush()
        session.add(
            Deployment(
                organization_id=organization_id,
                cluster_id=cluster.id,
                name="work",
                kind="job",
                cpu_milli=1,
                ram_mib=1,
                priority=500,
                restart_policy="never",
                state=state,
                state_after_stop="STOPPED" if state == "STOPPING" else None,
                created_at=now,
            )
        )
