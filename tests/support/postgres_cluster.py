"""A PostgreSQL cluster of one test module, which it may stop, start, and make a standby or read-only."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from anyio.from_thread import BlockingPortal

from tests.support import servers
from tests.support.postgres import SETTINGS, find_binaries, initialise, is_ready
from tests.support.wait import PROMPT

ROLE = "hypervisor"


class PostgresCluster:
    """A cluster with the role `hypervisor`, an ordinary user, and a database of that name."""

    def __init__(self, folder: Path, portal: BlockingPortal, settings: Mapping[str, str]) -> None:
        self.binaries = find_binaries(folder)
        self.home = folder / "cluster"
        self.port = servers.free_port()
        self.admin_url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.url = f"postgresql://{ROLE}@127.0.0.1:{self.port}/{ROLE}"
        self._log = folder / "postgres.log"
        self._portal = portal
        self._account = servers.unprivileged_account()
        self._settings = {**SETTINGS, **settings, "port": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        initialise(self.binaries, self.home, self._account)

    def start(self, *, wait: bool = True) -> None:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        (self.home / "postmaster.pid").unlink(missing_ok=True)
        command = [str(self.binaries / "postgres"), "-D", str(self.home), *options]
        self._process = servers.spawn(
            command, log=self._log, account=self._account, death_signal=signal.SIGQUIT
        )
        if wait:
            assert servers.wait_until_ready(self._process, partial(is_ready, self.home), log=self._log)

    def stop(self, *signals: int) -> None:
        """End all sessions and shut down cleanly; SIGQUIT as the first signal ends it at once."""
        if self._process is not None:
            servers.stop(self._process, *(signals or (signal.SIGINT, signal.SIGQUIT)))

    def become_standby(self) -> None:
        """Restart as a hot standby: it answers queries and can only be read."""
        self.stop()
        marker = self.home / "standby.signal"
        marker.touch()
        if self._account.uid is not None and self._account.gid is not None:
            os.chown(marker, self._account.uid, self._account.gid)
        self.start()

    def become_primary(self) -> None:
        self.execute("SELECT pg_promote(true, 60)")

    def execute(self, statement: str, database: str = "/postgres") -> None:
        """Run statements as the superuser, outside of a transaction."""
        self._portal.call(_execute, self.admin_url.removesuffix("/postgres") + database, statement)

    def end_sessions(self) -> None:
        """End every other session, as an administrator would (57P01)."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            f"WHERE usename = '{ROLE}' AND pid <> pg_backend_pid()"
        )

    def crash(self) -> None:
        """Kill one backend: the server ends all others (57P02) and recovers (57P03)."""
        assert self._process is not None
        pid = self._portal.call(_backend_of_role, self.admin_url)
        os.kill(pid, signal.SIGKILL)


@contextmanager
def running_cluster(portal: BlockingPortal, **settings: str) -> Iterator[PostgresCluster]:
    """A started cluster with its role and its database. `settings` are of the server."""
    with servers.scratch_directory("hv-cluster-") as folder:
        cluster = PostgresCluster(folder, portal, settings)
        cluster.start()
        try:
            cluster.execute(f"CREATE ROLE {ROLE} LOGIN")
            cluster.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
            yield cluster
        finally:
            cluster.stop(signal.SIGQUIT)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=PROMPT)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _backend_of_role(url: str) -> int:
    connection = await asyncpg.connect(url, timeout=PROMPT)
    try:
        pid: int = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY pid LIMIT 1", ROLE
        )
        return pid
    finally:
        await connection.close()
