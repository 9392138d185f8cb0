"""Backup and restore of the embedded database: what is refused, what is kept, what is checked."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypervisor.cli.main import run
from hypervisor.infra.security.secret_key import load_secret_key
from hypervisor.settings import Settings
from hypervisor.store.copies import ID_GAP
from hypervisor.store.file_lock import sole_server
from tests.support.world import new_world, simulated

OTHER_KEY = "another key of at least 32 characters"


@dataclass
class Place:
    """Where one installation has its files."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "hypervisor.db"

    @property
    def key(self) -> Path:
        return self.folder / "data" / "secret.key"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def names(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM deployments ORDER BY id")]

    def next_id(self, table: str) -> int:
        with closing(sqlite3.connect(self.database)) as connection:
            rows = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
        return int(rows[table]) + 1


@dataclass
class Outcome:
    code: int
    out: str
    error: str


Command = Callable[..., Outcome]


@pytest.fixture
async def old(sqlite_url: str, tmp_path: Path) -> Place:
    """An installation with two deployments and a generated key."""
    place = Place(tmp_path)
    assert place.url == sqlite_url
    load_secret_key(Settings(data_dir=place.key.parent))
    async with new_world(sqlite_url, tmp_path) as world:
        cluster = await world.cluster()
        await world.submit_many(cluster, [simulated() | {"name": "one"}, simulated() | {"name": "two"}])
    return place


@pytest.fixture
def new(tmp_path: Path) -> Place:
    """An empty place to restore to."""
    folder = tmp_path / "new"
    folder.mkdir()
    return Place(folder)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one command line for a place; `settings` are environment variables."""

    def call(place: Place, *arguments: object, **settings: str) -> Outcome:
        mine = {"DATABASE_URL": place.url, "DATA_DIR": str(place.key.parent), **settings}
        with monkeypatch.context() as context:
            for name in ("SECRET_KEY", "HOST", "REDIS_URL"):
                context.delenv(name, raising=False)
            for name, value in mine.items():
                context.setenv(name, value)
            context.chdir(place.folder)
            code = run([str(one) for one in arguments])
        seen = capsys.readouterr()
        return Outcome(code, seen.out, seen.err)

    return call


def saved(command: Command, place: Place, **settings: str) -> Path:
    file = place.folder / "saved.tar.gz"
    done = command(place, "--json", "backup", file, **settings)
    assert done.code == 0, done.error
    assert json.loads(done.out)["deployments"] == 2
    return file


def test_a_backup_comes_back_with_its_key_and_ids_that_were_never_given_out(
    command: Command, old: Place, new: Place
) -> None:
    file = saved(command, old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = command(new, "restore", file)
    assert restored.code == 0, restored.error
    assert "with 2 deployments" in restored.out
    assert new.names == old.names == ["one", "two"]
    assert new.key.read_text() == old.key.read_text()
    assert stat.S_IMODE(new.key.stat().st_mode) == 0o600
    assert new.next_id("deployments") == old.next_id("deployments") + ID_GAP
    # A table that was empty then may have been filled before the disaster.
    assert new.next_id("decisions") == ID_GAP + 1
    assert sorted(path.name for path in new.folder.iterdir()) == [
        "data",
        "hypervisor.db",
        "hypervisor.db.lock",
    ]


def test_a_file_that_exists_is_never_written_over(command: Command, old: Place) -> None:
    file = saved(command, old)
    before = file.read_bytes()
    again = command(old, "backup", file)
    assert (again.code, again.error) == (1, f"error: {file} already exists; choose another file name\n")
    assert file.read_bytes() == before


def test_a_database_that_is_there_is_replaced_only_by_force_and_kept(
    command: Command, old: Place, new: Place
) -> None:
    file = saved(command, old)
    assert command(new, "restore", file).code == 0
    with closing(sqlite3.connect(new.database)) as connection, connection:
        connection.execute("UPDATE deployments SET name = 'later'")
    new.key.write_text("b" * 64)

    refused = command(new, "restore", file)
    assert refused.code == 1
    assert "--force" in refused.error
    assert new.names == ["later", "later"]

    forced = command(new, "restore", file, "--force")
    assert forced.code == 0, forced.error
    assert new.names == ["one", "two"]
    assert new.key.read_text() == old.key.read_text()
    (kept_key,) = new.key.parent.glob("secret.key.before-*")
    assert kept_key.read_text() == "b" * 64
    (kept,) = new.folder.glob("hypervisor.db.before-*")
    kept.rename(new.database)
    assert new.names == ["later", "later"]


def test_a_restore_is_refused_while_a_server_runs(command: Command, old: Place) -> None:
    file = saved(command, old)
    with sole_server(old.url):
        refused = command(old, "restore", file, "--force")
    assert refused.code == 1
    assert f"another server (process {os.getpid()}) uses" in refused.error
    assert old.names == ["one", "two"]


def test_a_damaged_file_is_refused_before_anything_is_touched(
    command: Command, old: Place, new: Place, tmp_path: Path
) -> None:
    file = saved(command, old)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(file.read_bytes()[:-2000])
    other = tmp_path / "other.tar.gz"
    with tarfile.open(file) as source, tarfile.open(other, "w:gz") as target:
        for entry in source:
            changed = io.BytesIO(b"c" * entry.size)
            target.addfile(entry, changed if entry.name == "secret.key" else source.extractfile(entry))
    for path, told in {
        cut: "is not a complete backup",
        other: "the checksum of secret.key does not match",
    }.items():
        refused = command(new, "restore", path)
        assert refused.code == 1
        assert told in refused.error
        assert len(refused.error.splitlines()) == 1
    assert not new.database.exists()
    assert not new.key.exists()


def test_the_key_has_to_be_the_one_that_the_backup_was_made_with(
    command: Command, old: Place, new: Place
) -> None:
    own = saved(command, old)
    refused = command(new, "restore", own, SECRET_KEY=OTHER_KEY)
    assert refused.code == 1
    assert "unset SECRET_KEY" in refused.error

    own.unlink()
    given = saved(command, old, SECRET_KEY=OTHER_KEY)
    refused = command(new, "restore", given)
    assert refused.code == 1
    assert "set the same SECRET_KEY" in refused.error
    assert not new.database.exists()
    assert command(new, "restore", given, SECRET_KEY=OTHER_KEY).code == 0
    assert not new.key.exists()


def test_a_backup_of_a_newer_version_is_refused(command: Command, old: Place, new: Place) -> None:
    with closing(sqlite3.connect(old.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = command(new, "restore", saved(command, old))
    assert refused.code == 1
    assert "newer than this one" in refused.error


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_postgresql_is_pointed_to_its_own_tools(command: Command, new: Place, name: str) -> None:
    refused = command(new, name, "x.tar.gz", DATABASE_URL="postgresql://me@127.0.0.1:1/nothing")
    assert refused.code == 1
    assert "docs/backup.md" in refused.error
    assert len(refused.error.splitlines()) == 1
