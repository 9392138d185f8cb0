"""Limits: the rate limit for each user or address, and a full disk."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from tests.support.api import ok, refused, running_api


async def test_each_user_has_a_separate_limit(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(sqlite_url, tmp_path, rate_limit="8/minute") as api:
        ada, bob = await api.person(), await api.person()
        answers = [await ada.get("/api/v1/auth/me") for _ in range(8)]
        refused(answers[-1], 429, "rate_limited")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        ok(await bob.get("/api/v1/auth/me"))


async def test_anonymous_requests_share_the_limit_of_their_address(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(sqlite_url, tmp_path, rate_limit="3/minute") as api:
        statuses = [(await api.http.get("/api/v1/auth/me")).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]


async def test_a_full_disk_is_reported_and_changes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(sqlite_url, tmp_path) as api:
        ada = await api.person()
        async with api.services.database.write() as session:
            pages = await session.scalar(text("PRAGMA page_count"))
            await session.execute(text(f"PRAGMA max_page_count = {pages}"))
        for number in range(500):
            answer = await ada.post("/api/v1/organizations", {"name": f"Team {number} {'x' * 60}"})
            if answer.status_code != 201:
                break
        refused(answer, 507, "disk_full")
        created = ok(await ada.get("/api/v1/organizations?limit=100"))
        assert f"Team {number} " not in str(created)

        async with api.services.database.write() as session:
            await session.execute(text("PRAGMA max_page_count = 1000000"))
        ok(await ada.post("/api/v1/organizations", {"name": "Afterwards"}), 201)
