"""Invite codes: read, replaced, expired, used up, and used concurrently."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from hypervisor.store.tables import Invite
from tests.support.api import Api, ok, problem_body, refused
from tests.support.databases import ON_SQLITE


async def test_a_new_organization_has_a_code_for_developers(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization("Vision")
    path = f"/api/v1/organizations/{organization}/invite-code"

    invite = ok(await ada.get(path))
    assert invite["role"] == "developer"
    assert (invite["expires_at"], invite["max_uses"], invite["uses"]) == (None, None, 0)

    joined = ok(await bob.join(invite["invite_code"]))
    assert (joined["id"], joined["name"], joined["role"]) == (organization, "Vision", "developer")
    assert ok(await ada.get(path))["uses"] == 1


async def test_codes_are_stored_hashed_and_encrypted(api: Api) -> None:
    ada = await api.person()
    code = await ada.invite(await ada.organization())
    async with api.services.database.read() as session:
        rows = list(await session.scalars(select(Invite)))
    assert all(code not in (row.code_hash, row.code_encrypted) for row in rows)
    assert len(code) >= 26


async def test_regenerating_stops_the_old_code(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization()
    old = await ada.invite(organization)
    path = f"/api/v1/organizations/{organization}/regenerate-invite"

    new = ok(await ada.post(path))["invite_code"]

    refused(await bob.join(old), 404, "invalid_invite")
    ok(await bob.join(new))


async def test_a_code_expires(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization()
    code = await ada.invite(organization, expires_in_hours=0.1)
    api.clock.advance(6 * 60)
    refused(await bob.join(code), 404, "invalid_invite")


async def test_a_code_can_be_used_up_to_its_limit(api: Api) -> None:
    ada, bob, eve = await api.person(), await api.person(), await api.person()
    organization = await ada.organization()
    code = await ada.invite(organization, max_uses=1)
    ok(await bob.join(code))
    refused(await eve.join(code), 404, "invalid_invite")


async def test_all_invalid_codes_get_the_same_response(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization()
    replaced = await ada.invite(organization)
    expired = await ada.invite(organization, expires_in_hours=0.001)
    api.clock.advance(60)
    answers = [await bob.join(code) for code in (replaced, expired, "never-existed")]
    answers.append(
        await bob.post(f"/api/v1/organizations/{organization + 1000}/join", {"invite_code": expired})
    )
    first, *others = [(answer.status_code, problem_body(answer)) for answer in answers]
    assert all(other == first for other in others)


async def test_joining_twice_is_refused_and_uses_nothing_up(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization()
    code = await ada.invite(organization, max_uses=2)
    ok(await bob.join(code))

    refused(await bob.join(code), 409, "already_member")
    refused(await ada.join(code), 409, "already_member")

    assert ok(await ada.get(f"/api/v1/organizations/{organization}/invite-code"))["uses"] == 1


async def test_a_code_works_only_for_its_own_organization(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    mine, other = await ada.organization(), await ada.organization()
    code = await ada.invite(mine, max_uses=1)
    refused(
        await bob.post(f"/api/v1/organizations/{other}/join", {"invite_code": code}), 404, "invalid_invite"
    )
    ok(await bob.post(f"/api/v1/organizations/{mine}/join", {"invite_code": code}))


async def test_of_twenty_at_once_exactly_as_many_join_as_may(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    people = [await api.person() for _ in range(20)]
    code = await ada.invite(organization, max_uses=5)

    answers = await asyncio.gather(*(person.join(code) for person in people))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [404] * 15
    assert ok(await ada.get(f"/api/v1/organizations/{organization}/invite-code"))["uses"] == 5
    assert len(ok(await ada.get(f"/api/v1/organizations/{organization}/members"))["items"]) == 6


async def test_one_person_joining_many_times_at_once_uses_one(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    organization = await ada.organization()
    code = await ada.invite(organization, max_uses=5)

    answers = await asyncio.gather(*(bob.join(code) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert ok(await ada.get(f"/api/v1/organizations/{organization}/invite-code"))["uses"] == 1


async def test_joining_while_the_code_is_replaced_ends_without_deadlock(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    people = [await api.person() for _ in range(8)]
    code = await ada.invite(organization)
    path = f"/api/v1/organizations/{organization}/regenerate-invite"

    answers = await asyncio.gather(*(p.join(code) for p in people), *(ada.post(path) for _ in range(4)))

    assert {answer.status_code for answer in answers} <= {200, 404}
    async with api.services.database.read() as session:
        live = list(await session.scalars(select(Invite).where(Invite.revoked_at.is_(None))))
    assert len(live) == 1


@ON_SQLITE
@pytest.mark.parametrize(
    "options",
    [
        {"expires_in_hours": 0},
        {"expires_in_hours": -1},
        {"expires_in_hours": 1e9},
        {"max_uses": 0},
        {"max_uses": 1.5},
        {"role": "superuser"},
        {"uses": 0},
        {"organization_id": 1},
    ],
)
async def test_regenerating_refuses_invalid_options(api: Api, options: dict[str, object]) -> None:
    ada = await api.person()
    organization = await ada.organization()
    answer = await ada.post(f"/api/v1/organizations/{organization}/regenerate-invite", options)
    refused(answer, 422, "invalid_request")


async def test_joining_with_a_chosen_role_is_refused(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    code = await ada.invite(await ada.organization())
    body = {"invite_code": code, "role": "admin"}
    refused(await bob.post("/api/v1/organizations/join", body), 422, "invalid_request")
