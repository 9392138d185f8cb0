"""Every published path of accounts and organizations works, with all its aliases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx2
import pytest

from tests.support.api import PASSWORD, Api, Person, ok
from tests.support.databases import ON_SQLITE

PREFIXES = ("", "/api/v1")
SLASHES = ("", "/")


def everywhere(*paths: str) -> list[str]:
    """Each path at the root and below /api/v1, with and without a slash at its end."""
    return [f"{prefix}{path}{slash}" for path in paths for prefix in PREFIXES for slash in SLASHES]


@pytest.fixture
async def ada(api: Api) -> Person:
    return await api.person("ada")


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/auth/register", "/register"))
async def test_register(api: Api, path: str) -> None:
    body = {"username": "bob", "email": "bob@example.com", "password": PASSWORD, "role": "developer"}
    assert ok(await api.http.post(path, json=body), 201)["username"] == "bob"


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/auth/login", "/login", "/token"))
async def test_login(api: Api, ada: Person, path: str) -> None:
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD, "scope": ""}
    tokens = ok(await api.http.post(path, data=form))
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/auth/refresh"))
async def test_refresh(api: Api, ada: Person, path: str) -> None:
    assert ok(await api.http.post(path, json={"refresh_token": ada.refresh_token}))["access_token"]


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/auth/logout"))
@pytest.mark.parametrize("with_body", [True, False])
async def test_logout(ada: Person, path: str, with_body: bool) -> None:
    body = {"refresh_token": ada.refresh_token} if with_body else None
    ok(await ada.post(path, body), 204)


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/auth/me"))
async def test_me(ada: Person, path: str) -> None:
    assert ok(await ada.get(path))["username"] == "ada"


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/organizations", "/organization"))
async def test_create_organization(ada: Person, path: str) -> None:
    assert ok(await ada.post(path, {"name": "Vision"}), 201)["role"] == "admin"
    assert len(ok(await ada.get(path))["items"]) == 1


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/organizations/{id}", "/organization/{id}"))
async def test_organization(ada: Person, path: str) -> None:
    path = path.format(id=await ada.organization("Vision"))
    assert ok(await ada.get(path))["name"] == "Vision"
    assert ok(await ada.call("PUT", path, json={"name": "Sight"}))["name"] == "Sight"
    assert ok(await ada.patch(path, {"name": "Look"}))["name"] == "Look"
    ok(await ada.delete(path), 204)


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/organizations/{id}/invite-code"))
async def test_invite_code(ada: Person, path: str) -> None:
    path = path.format(id=await ada.organization())
    invite_code = ok(await ada.get(path))["invite_code"]
    renewed = ok(await ada.post(path.replace("invite-code", "regenerate-invite")))["invite_code"]
    assert invite_code != renewed


Join = Callable[[Person, int, str], Awaitable[httpx2.Response]]


def _by_body(path: str) -> Join:
    return lambda person, id, code: person.post(path.format(id=id), {"invite_code": code})


def _by_path(path: str) -> Join:
    return lambda person, id, code: person.post(path.format(id=id, code=code))


@ON_SQLITE
@pytest.mark.parametrize(
    "join",
    [
        *map(_by_body, everywhere("/organizations/join", "/join-organization", "/organizations/{id}/join")),
        *map(_by_path, everywhere("/organization/join/{code}", "/organizations/join/{code}")),
    ],
)
async def test_join(api: Api, ada: Person, join: Join) -> None:
    organization = await ada.organization()
    bob = await api.person()
    joined = ok(await join(bob, organization, await ada.invite(organization)))
    assert (joined["id"], joined["role"]) == (organization, "developer")


@ON_SQLITE
@pytest.mark.parametrize("path", everywhere("/organizations/{id}/members"))
async def test_members(api: Api, ada: Person, path: str) -> None:
    organization = await ada.organization()
    bob = await api.member(ada, organization, "viewer")
    path = path.format(id=organization)
    assert len(ok(await ada.get(path))["items"]) == 2
    one = f"{path.rstrip('/')}/{bob.id}{'/' if path.endswith('/') else ''}"
    assert ok(await ada.patch(one, {"role": "developer"}))["role"] == "developer"
    ok(await ada.delete(one), 204)


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/", "/redoc", "/redoc/", "/swagger", "/swagger/", "/admin", "/admin/"]
)
async def test_pages(sqlite_api: Api, path: str) -> None:
    answer = await sqlite_api.http.get(path, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
