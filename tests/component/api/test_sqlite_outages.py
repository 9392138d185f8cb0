"""A SQLite file that cannot be used for a while: 503, not ready, and back without a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from hypervisor.store import sqlite_guard
from tests.support.api import ok, refused, running_api

Trouble = Callable[[Path], AbstractContextManager[None]]


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    elsewhere = path.with_name("elsewhere.db")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    with moved_away(path):
        path.touch()
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("trouble", [moved_away, replaced])
async def test_nothing_is_written_to_a_removed_file(
    sqlite_url: str, tmp_path: Path, trouble: Trouble
) -> None:
    async with running_api(sqlite_url, tmp_path / "data") as api:
        person = await api.person()
        with trouble(file_of(sqlite_url)):
            answer = await person.post("/organizations", json={"name": "lost"})
            assert "Nothing was changed" in refused(answer, 503, "database_unavailable")["detail"]
            assert int(answer.headers["Retry-After"]) >= 1
            ready = await api.http.get("/readyz")
            assert "was removed or replaced" in refused(ready, 503, "database_read_only")["detail"]
            assert ready.headers["Retry-After"] == "1"
            ok(await api.http.get("/healthz"))
        ok(await person.post("/organizations", json={"name": "kept"}), 201)
        ok(await api.http.get("/readyz"))


async def test_a_lock_of_another_program_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(f"{sqlite_url}?timeout=0.1", tmp_path / "data") as api:
        person = await api.person()
        with locked(file_of(sqlite_url)):
            answer = await person.post("/organizations", json={"name": "a"})
            refused(answer, 503, "database_busy")
            assert int(answer.headers["Retry-After"]) >= 1
        ok(await person.post("/organizations", json={"name": "a"}), 201)


async def test_a_server_that_cannot_write_is_not_ready(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(sqlite_url, tmp_path / "data") as api:
        monkeypatch.setattr(sqlite_guard, "MIN_FREE_BYTES", 2**62)
        full = refused(await api.http.get("/readyz"), 503, "database_read_only")
        assert "disk of the database is full" in full["detail"]
        monkeypatch.setattr("os.access", lambda *_: False)
        read_only = refused(await api.http.get("/readyz"), 503, "database_read_only")
        assert "is read-only" in read_only["detail"]
        monkeypatch.undo()
        ok(await api.http.get("/readyz"))
