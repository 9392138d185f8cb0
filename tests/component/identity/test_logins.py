"""Logins, their backoff, sessions and refresh tokens."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest
from sqlalchemy import select, update

from hypervisor.identity.sessions import purge
from hypervisor.infra.security.tokens import AccessClaims
from hypervisor.store.tables import LoginSession, LoginThrottle, RefreshToken, User
from tests.support.api import PASSWORD, Api, Person, ok, problem_body, refused


async def _refresh(api: Api, token: str) -> tuple[int, dict[str, str]]:
    answer = await api.http.post("/api/v1/auth/refresh", json={"refresh_token": token})
    return answer.status_code, answer.json()


@pytest.mark.parametrize("name", ["ada", "Ada", " ada ", "ada@example.com", "ADA@EXAMPLE.COM"])
async def test_login_takes_the_username_or_the_address(api: Api, name: str) -> None:
    ok(await api.register("ada"), 201)
    tokens = ok(await api.login(name))
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 30 * 60
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}


async def test_unknown_wrong_and_inactive_get_the_same_answer(api: Api) -> None:
    ok(await api.register("ada"), 201)
    await api.person("gone")
    async with api.services.database.write() as session:
        await session.execute(update(User).where(User.username == "gone").values(is_active=False))

    answers = [
        await api.login("nobody"),
        await api.login("ada", "not the password"),
        await api.login("gone"),
    ]

    for answer in answers:
        refused(answer, 401, "invalid_credentials")
    assert problem_body(answers[0]) == problem_body(answers[1]) == problem_body(answers[2])


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_the_backoff_of_an_account_doubles_with_each_failure(api: Api, name: str) -> None:
    ok(await api.register("ada"), 201)
    for _ in range(5):
        refused(await api.login(name, "guess"), 401, "invalid_credentials")
    for wait in (1, 2, 4, 8):
        blocked = await api.login(name)
        assert refused(blocked, 429, "login_backoff")["retry_after"] == wait
        assert blocked.headers["Retry-After"] == str(wait)
        api.clock.advance(wait)
        refused(await api.login(name, "guess"), 401, "invalid_credentials")


async def test_the_backoff_is_bounded_and_the_right_password_resets_it(api: Api) -> None:
    ok(await api.register("ada"), 201)
    for _ in range(20):
        refused(await api.login("ada", "guess"), 401, "invalid_credentials")
        api.clock.advance(15 * 60)
    ok(await api.login("ada"))
    for _ in range(4):
        refused(await api.login("ada", "guess"), 401, "invalid_credentials")
    ok(await api.login("ada"))


async def test_the_address_and_the_name_count_as_one_account(api: Api) -> None:
    ok(await api.register("ada"), 201)
    for _ in range(5):
        refused(await api.login("ada@example.com", "guess"), 401, "invalid_credentials")
    refused(await api.login("ada"), 429, "login_backoff")


async def test_parallel_guesses_do_not_pass_the_backoff(api: Api) -> None:
    ok(await api.register("ada"), 201)
    guesses = [api.login("ada", f"guess number {number}") for number in range(12)]
    await asyncio.gather(*guesses)
    refused(await api.login("ada"), 429, "login_backoff")


async def test_an_address_may_try_twenty_times_a_minute(sqlite_api: Api) -> None:
    for number in range(20):
        refused(await sqlite_api.login(f"user{number}", "guess"), 401, "invalid_credentials")
    answer = await sqlite_api.login("user99", "guess")
    refused(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


async def test_a_bcrypt_hash_is_accepted_once_and_replaced(api: Api) -> None:
    ok(await api.register("ada"), 201)
    old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    async with api.services.database.write() as session:
        await session.execute(update(User).values(password_hash=old))

    ok(await api.login("ada"))

    async with api.services.database.read() as session:
        stored = await session.scalar(select(User.password_hash))
    assert stored is not None
    assert stored.startswith("$argon2id$")
    ok(await api.login("ada"))


async def test_logout_ends_access_and_refresh_at_once(api: Api) -> None:
    ada = await api.person("ada")
    other = await api.log_in("ada")

    ok(await ada.post("/api/v1/auth/logout"), 204)

    refused(await ada.get("/api/v1/auth/me"), 401, "session_ended")
    assert (await _refresh(api, ada.refresh_token))[0] == 401
    ok(await other.get("/api/v1/auth/me"))


async def test_an_access_token_ends_and_a_refresh_token_makes_a_new_one(api: Api) -> None:
    ada = await api.person()
    api.clock.advance(31 * 60)
    refused(await ada.get("/api/v1/auth/me"), 401, "invalid_token")

    status, tokens = await _refresh(api, ada.refresh_token)

    assert status == 200
    assert tokens["refresh_token"] != ada.refresh_token
    ada.access_token = tokens["access_token"]
    ok(await ada.get("/api/v1/auth/me"))


async def test_using_a_refresh_token_twice_ends_the_whole_session(api: Api) -> None:
    ada = await api.person()
    _, first = await _refresh(api, ada.refresh_token)
    status, problem = await _refresh(api, ada.refresh_token)

    assert (status, problem["code"]) == (401, "invalid_refresh_token")
    assert (await _refresh(api, first["refresh_token"]))[0] == 401
    refused(await ada.get("/api/v1/auth/me"), 401, "session_ended")


async def test_of_simultaneous_refreshes_at_most_one_gets_tokens(api: Api) -> None:
    ada = await api.person()

    answers = await asyncio.gather(*(_refresh(api, ada.refresh_token) for _ in range(8)))

    assert sorted(status for status, _ in answers) == [200] + [401] * 7
    refused(await ada.get("/api/v1/auth/me"), 401, "session_ended")
    async with api.services.database.read() as session:
        unused = await session.scalars(select(RefreshToken).where(RefreshToken.used_at.is_(None)))
        assert len(list(unused)) == 1


async def test_refresh_tokens_idle_out_after_a_week_and_sessions_after_a_month(api: Api) -> None:
    idle = await api.person()
    api.clock.advance(7 * 86400)
    assert (await _refresh(api, idle.refresh_token))[0] == 401

    busy = await api.person()
    token = busy.refresh_token
    for _ in range(5):
        api.clock.advance(5.9 * 86400)
        status, tokens = await _refresh(api, token)
        assert status == 200
        token = tokens["refresh_token"]
    api.clock.advance(0.6 * 86400)
    assert (await _refresh(api, token))[0] == 401


async def test_tokens_are_stored_hashed(api: Api) -> None:
    ada = await api.person()
    async with api.services.database.read() as session:
        hashes = list(await session.scalars(select(RefreshToken.token_hash)))
    assert len(hashes) == 1
    assert ada.refresh_token not in hashes


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not a token",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
async def test_other_tokens_are_refused(sqlite_api: Api, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = await sqlite_api.http.get("/api/v1/auth/me", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_of_another_user_for_this_session_is_refused(api: Api) -> None:
    ada, bob = await api.person(), await api.person()
    async with api.services.database.read() as session:
        of_bob = await session.scalar(select(LoginSession.id).where(LoginSession.user_id == bob.id))
    assert of_bob is not None
    forged = api.services.tokens.issue(AccessClaims(ada.id, of_bob), api.clock.now())
    mixed = Person(api, ada.id, ada.username, ada.email, forged, "")
    refused(await mixed.get("/api/v1/auth/me"), 401, "session_ended")


async def test_a_deactivated_user_is_out_at_once(api: Api) -> None:
    ada = await api.person("ada")
    async with api.services.database.write() as session:
        await session.execute(update(User).where(User.id == ada.id).values(is_active=False))
    refused(await ada.get("/api/v1/auth/me"), 401, "session_ended")
    assert (await _refresh(api, ada.refresh_token))[0] == 401


async def test_purge_deletes_only_old_rows(api: Api) -> None:
    await api.person("ada")
    refused(await api.login("nobody", "guess"), 401, "invalid_credentials")
    api.clock.advance(29 * 86400)
    late = await api.person("bob")
    refused(await api.login("somebody", "guess"), 401, "invalid_credentials")
    api.clock.advance(2.5 * 86400 - 60)
    refused(await api.login("lately", "guess"), 401, "invalid_credentials")

    await purge(api.services.database, api.clock.now())

    async with api.services.database.read() as session:
        assert list(await session.scalars(select(LoginSession.user_id))) == [late.id]
        assert len(list(await session.scalars(select(LoginThrottle)))) == 1
