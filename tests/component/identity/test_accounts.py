"""Registration, the current user, and password changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import PASSWORD, Api, ok, refused
from tests.support.databases import ON_SQLITE


async def test_a_new_account_has_no_rights_with_any_requested_role(api: Api) -> None:
    user = ok(await api.register("ada", role="admin"), 201)
    assert user["username"] == "ada"
    assert user["requested_role"] == "admin"
    assert user["is_superuser"] is False
    assert "password" not in str(user)

    ada = await api.log_in("ada")
    me = ok(await ada.get("/api/v1/auth/me"))
    assert me["organizations"] == []
    assert me["is_superuser"] is False


async def test_the_first_user_is_no_superuser(api: Api) -> None:
    first = await api.person()
    assert ok(await first.get("/api/v1/auth/me"))["is_superuser"] is False


async def test_me_names_organizations_and_roles(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    own = await ada.organization("Ada's")
    other = await bob.organization("Bob's")
    ok(await ada.join(await bob.invite(other, role="viewer")))

    me = ok(await ada.get("/api/v1/auth/me"))

    assert me["organizations"] == [
        {"organization_id": own, "name": "Ada's", "role": "admin"},
        {"organization_id": other, "name": "Bob's", "role": "viewer"},
    ]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"username": "ADA", "email": "other@example.com"}, "username_taken"),
        ({"username": "other", "email": "Ada@Example.com"}, "email_taken"),
    ],
)
async def test_names_and_addresses_are_unique_without_regard_to_case(
    api: Api, fields: dict[str, str], code: str
) -> None:
    ok(await api.register("ada"), 201)
    refused(await api.register(**fields), 409, code)


@ON_SQLITE
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "Password123"}, "password"),
        ({"password": "aaaaaaaaaaaa"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"password": "nul\0 in the middle"}, ""),
        ({"username": "a"}, "username"),
        ({"username": "ada@example.com"}, "username"),
        ({"username": "ada", "password": "ada@example.com", "email": "ada@example.com"}, "password"),
        ({"email": "no address"}, "email"),
        ({"is_superuser": True}, "is_superuser"),
        ({"is_active": True}, "is_active"),
    ],
)
async def test_registration_refuses_invalid_fields(api: Api, fields: dict[str, Any], field: str) -> None:
    problem = refused(await api.register(**{"username": "ada", **fields}), 422, "invalid_request")
    assert field in problem["errors"][0]["loc"] or field == ""
    assert problem["detail"].startswith(field)
    assert str(fields.get("password", PASSWORD)) not in str(problem)


async def test_half_a_surrogate_pair_is_refused(api: Api) -> None:
    body = b'{"username": "ada", "email": "ada@example.com", "password": "long enough \\ud800"}'
    headers = {"content-type": "application/json"}
    answer = await api.http.post("/api/v1/auth/register", content=body, headers=headers)
    refused(answer, 422, "invalid_request")


async def test_long_passwords_need_no_special_characters(api: Api) -> None:
    ok(await api.register("ada", password="justlowercaseletters"), 201)
    ok(await api.login("ada", "justlowercaseletters"))


async def test_changing_the_password_ends_the_other_sessions(api: Api) -> None:
    here = await api.person("ada")
    elsewhere = await api.log_in("ada")
    body = {"current_password": PASSWORD, "new_password": "another harbour at dusk"}

    ok(await here.post("/api/v1/auth/change-password", body), 204)

    ok(await here.get("/api/v1/auth/me"))
    refused(await elsewhere.get("/api/v1/auth/me"), 401, "session_ended")
    refresh = await api.http.post("/api/v1/auth/refresh", json={"refresh_token": elsewhere.refresh_token})
    refused(refresh, 401, "invalid_refresh_token")
    refused(await api.login("ada"), 401, "invalid_credentials")
    ok(await api.login("ada", "another harbour at dusk"))


async def test_changing_the_password_needs_the_current_one_and_counts_guesses(api: Api) -> None:
    ada = await api.person("ada")
    wrong = {"current_password": "not the password", "new_password": "another harbour at dusk"}
    for _ in range(5):
        refused(await ada.post("/api/v1/auth/change-password", wrong), 403, "wrong_password")
    refused(await ada.post("/api/v1/auth/change-password", wrong), 429, "login_backoff")
    api.clock.advance(2)
    ok(await api.login("ada"))
