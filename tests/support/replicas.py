"""Several real servers of one installation: one PostgreSQL, one data folder, one role each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from tests.support.server import HypervisorServer
from tests.support.servers import free_port
from tests.support.wait import eventually_sync

LEASE_SECONDS = 4


@dataclass
class Replicas:
    """The servers of one installation by name."""

    folder: Path
    database_url: str
    settings: dict[str, str] = field(default_factory=dict)
    servers: dict[str, HypervisorServer] = field(default_factory=dict)

    def start(self, name: str, role: str) -> HypervisorServer:
        """Start a server and wait until it is ready."""
        settings = {
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "data"),
            "SECRET_KEY": "one key for all replicas of the test",
            "ROLE": role,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            **self.settings,
        }
        server = HypervisorServer(self.folder / name, free_port(), settings)
        self.servers[name] = server
        server.start()
        return server

    def holder(self, lease: str) -> str | None:
        """The name of the server that holds a lease now, or None."""
        process = asyncio.run(_holding_process(self.database_url, lease))
        pids = {one.process.pid: name for name, one in self.servers.items() if one.process is not None}
        return pids.get(process) if process is not None else None

    def held(self, lease: str) -> str:
        """Wait until a server holds the lease; its name."""
        return str(eventually_sync(lambda: self.holder(lease), every=0.2, what=f"{lease} is held"))

    def close(self) -> None:
        """End all servers and their workloads."""
        for server in self.servers.values():
            server.stop()
        HypervisorServer(self.folder, 0).close()


@contextmanager
def replicas(folder: Path, database_url: str, **settings: str) -> Iterator[Replicas]:
    """An installation without a server; ends all its processes afterwards."""
    created = Replicas(folder, database_url, settings)
    try:
        yield created
    finally:
        created.close()


async def _holding_process(url: str, lease: str) -> int | None:
    """The process id of the server that holds the lease."""
    connection = await asyncpg.connect(url, timeout=30)
    try:
        host = await connection.fetchval(
            "SELECT servers.host FROM leases JOIN servers ON servers.name = leases.holder "
            "WHERE leases.name = $1 AND leases.expires_at > clock_timestamp()",
            lease,
        )
    finally:
        await connection.close()
    return int(host.rpartition(":")[2]) if host else None
