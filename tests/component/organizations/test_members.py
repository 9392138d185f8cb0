"""Members: roles, removal, leaving, and the last admin."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.api import Api, Person, ok, refused
from tests.support.databases import ON_SQLITE


def _member(organization: int, person: Person) -> str:
    return f"/api/v1/organizations/{organization}/members/{person.id}"


async def test_admins_change_roles_and_they_hold_at_once(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    bob = await api.member(ada, organization, "viewer")

    changed = ok(await ada.patch(_member(organization, bob), {"role": "ADMIN"}))

    assert changed["role"] == "admin"
    assert changed["username"] == bob.username
    ok(await bob.get(f"/api/v1/organizations/{organization}/invite-code"))
    ok(await bob.patch(_member(organization, ada), {"role": "developer"}))
    refused(await ada.patch(_member(organization, ada), {"role": "admin"}), 403, "role_too_low")


@ON_SQLITE
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"role": "owner"},
        {"role": None},
        {"role": "admin", "user_id": 1},
        {"role": "admin", "is_superuser": True},
    ],
)
async def test_a_change_of_role_refuses_invalid_bodies(api: Api, body: dict[str, object]) -> None:
    ada = await api.person()
    organization = await ada.organization()
    refused(await ada.patch(_member(organization, ada), body), 422, "invalid_request")


async def test_roles_are_per_organization(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    of_ada, of_bob = await ada.organization(), await bob.organization()
    ok(await ada.join(await bob.invite(of_bob, role="viewer")))
    ok(await bob.join(await ada.invite(of_ada)))

    roles = {
        one["organization_id"]: one["role"] for one in ok(await ada.get("/api/v1/auth/me"))["organizations"]
    }

    assert roles == {of_ada: "admin", of_bob: "viewer"}
    assert ok(await bob.get(f"/api/v1/organizations/{of_ada}"))["role"] == "developer"


async def test_the_last_admin_can_neither_leave_nor_be_demoted(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    bob = await api.member(ada, organization, "developer")
    root = await api.superuser()

    for person in (ada, root):
        refused(await person.delete(_member(organization, ada)), 409, "last_admin")
        refused(await person.patch(_member(organization, ada), {"role": "viewer"}), 409, "last_admin")

    ok(await ada.patch(_member(organization, bob), {"role": "admin"}))
    ok(await ada.delete(_member(organization, ada)), 204)


async def test_two_admins_cannot_leave_at_the_same_time(api: Api) -> None:
    for first_way in ("leave", "demote"):
        ada = await api.person()
        organization = await ada.organization()
        bob = await api.member(ada, organization, "admin")

        goes = (
            ada.delete(_member(organization, ada))
            if first_way == "leave"
            else ada.patch(_member(organization, ada), {"role": "viewer"})
        )
        answers = await asyncio.gather(goes, bob.delete(_member(organization, bob)))

        assert sorted(answer.status_code for answer in answers)[1] == 409
        root = await api.superuser()
        members = ok(await root.get(f"/api/v1/organizations/{organization}/members"))["items"]
        assert [one["role"] for one in members].count("admin") == 1


async def test_removed_members_lose_access_at_once(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    bob = await api.member(ada, organization, "admin")

    ok(await ada.delete(_member(organization, bob)), 204)

    refused(await bob.get(f"/api/v1/organizations/{organization}"), 404, "organization_not_found")
    refused(await ada.delete(_member(organization, bob)), 404, "member_not_found")


async def test_members_can_leave_and_join_again(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    bob = await api.member(ada, organization, "viewer")
    ok(await bob.delete(_member(organization, bob)), 204)
    ok(await bob.join(await ada.invite(organization)))


async def test_members_come_in_pages(api: Api) -> None:
    ada = await api.person()
    organization = await ada.organization()
    people = [ada] + [await api.member(ada, organization, "viewer") for _ in range(3)]
    path = f"/api/v1/organizations/{organization}/members"

    first = ok(await ada.get(path, params={"limit": 3}))
    second = ok(await ada.get(path, params={"limit": 3, "cursor": first["next_cursor"]}))

    assert [one["user_id"] for one in first["items"] + second["items"]] == [one.id for one in people]
    assert second["next_cursor"] is None
