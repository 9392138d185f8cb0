"""Backup and restore of the embedded database: checks, refusals, renamed files."""

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
class Installation:
    """The files of one installation."""

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
async def old(sqlite_url: str, tmp_path: Path) -> Installation:
    """An installation with two deployments and a generated key."""
    installation = Installation(tmp_path)
    assert installation.url == sqlite_url
    load_secret_key(Settings(data_dir=installation.key.parent))
    async with new_world(sqlite_url, tmp_path) as world:
        cluster = await world.cluster()
        await world.submit_many(cluster, [simulated() | {"name": "one"}, simulated() | {"name": "two"}])
    return installation


@pytest.fixture
def new(tmp_path: Path) -> Installation:
    """An empty folder to restore to."""
    folder = tmp_path / "new"
    folder.mkdir()
    return Installation(folder)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one command line in an installation. `settings` are environment variables."""

    def call(installation: Installation, *arguments: object, **settings: str) -> Outcome:
        environment = {"DATABASE_URL": installation.url, "DATA_DIR": str(installation.key.parent), **settings}
        with monkeypatch.context() as context:
            for name in ("SECRET_KEY", "HOST", "REDIS_URL"):
                context.delenv(name, raising=False)
            for name, value in environment.items():
                context.setenv(name, value)
            context.chdir(installation.folder)
            code = run([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return Outcome(code, output.out, output.err)

    return call


def make_backup(command: Command, installation: Installation, **settings: str) -> Path:
    file = installation.folder / "saved.tar.gz"
    done = command(installation, "--json", "backup", file, **settings)
    assert done.code == 0, done.error
    assert json.loads(done.out)["deployments"] == 2
    return file


def test_a_restore_has_the_key_and_unused_ids(command: Command, old: Installation, new: Installation) -> None:
    file = make_backup(command, old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = command(new, "restore", file)
    assert restored.code == 0, restored.error
    assert "with 2 deployments" in restored.out
    assert new.names == old.names == ["one", "two"]
    assert new.key.read_text() == old.key.read_text()
    assert stat.S_IMODE(new.key.stat().st_mode) == 0o600
    assert new.next_id("deployments") == old.next_id("deployments") + ID_GAP
    # A table that was empty in the backup may have had rows later, so its ids are skipped too.
    assert new.next_id("decisions") == ID_GAP + 1
    assert sorted(path.name for path in new.folder.iterdir()) == [
        "data",
        "hypervisor.db",
        "hypervisor.db.lock",
    ]


def test_an_existing_archive_is_never_overwritten(command: Command, old: Installation) -> None:
    file = make_backup(command, old)
    before = file.read_bytes()
    again = command(old, "backup", file)
    assert (again.code, again.error) == (1, f"error: {file} already exists; choose another file name\n")
    assert file.read_bytes() == before


def test_an_existing_database_is_replaced_only_with_force_and_renamed(
    command: Command, old: Installation, new: Installation
) -> None:
    file = make_backup(command, old)
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


def test_a_restore_is_refused_while_a_server_runs(command: Command, old: Installation) -> None:
    file = make_backup(command, old)
    with sole_server(old.url):
        refused = command(old, "restore", file, "--force")
    assert refused.code == 1
    assert f"another server (process {os.getpid()}) uses" in refused.error
    assert old.names == ["one", "two"]


def test_a_damaged_archive_is_refused_before_any_change(
    command: Command, old: Installation, new: Installation, tmp_path: Path
) -> None:
    file = make_backup(command, old)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(file.read_bytes()[:-2000])
    other = tmp_path / "other.tar.gz"
    with tarfile.open(file) as source, tarfile.open(other, "w:gz") as target:
        for entry in source:
            changed = io.BytesIO(b"c" * entry.size)
            target.addfile(entry, changed if entry.name == "secret.key" else source.extractfile(entry))
    for path, message in {
        cut: "is not a complete backup",
        other: "the checksum of secret.key does not match",
    }.items():
        refused = command(new, "restore", path)
        assert refused.code == 1
        assert message in refused.error
        assert len(refused.error.splitlines()) == 1
    assert not new.database.exists()
    assert not new.key.exists()


def test_a_restore_needs_the_key_of_the_backup(
    command: Command, old: Installation, new: Installation
) -> None:
    with_key = make_backup(command, old)
    refused = command(new, "restore", with_key, SECRET_KEY=OTHER_KEY)
    assert refused.code == 1
    assert "unset SECRET_KEY" in refused.error

    with_key.unlink()
    without_key = make_backup(command, old, SECRET_KEY=OTHER_KEY)
    refused = command(new, "restore", without_key)
    assert refused.code == 1
    assert "set the same SECRET_KEY" in refused.error
    assert not new.database.exists()
    assert command(new, "restore", without_key, SECRET_KEY=OTHER_KEY).code == 0
    assert not new.key.exists()


def test_a_backup_of_a_newer_version_is_refused(
    command: Command, old: Installation, new: Installation
) -> None:
    with closing(sqlite3.connect(old.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = command(new, "restore", make_backup(command, old))
    assert refused.code == 1
    assert "newer than this version" in refused.error


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_postgresql_is_refused_with_a_reference_to_its_tools(
    command: Command, new: Installation, name: str
) -> None:
    refused = command(new, name, "x.tar.gz", DATABASE_URL="postgresql://me@127.0.0.1:1/nothing")
    assert refused.code == 1
    assert "docs/backup.md" in refused.error
    assert len(refused.error.splitlines()) == 1
