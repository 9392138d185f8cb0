"""A durable PostgreSQL (with fsync) and several API servers, as in production."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.people import registered_client
from tests.support.postgres import find_binaries
from tests.support.postgres import running_server as running_postgres
from tests.support.server import running_server
from tests.support.servers import scratch_directory

from hypervisor.client import Client
from hypervisor.store.migrations.runner import upgrade

SECRET = "a key for benchmarks, the same for all servers"
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}
"""Settings of a PostgreSQL that survives a power failure. The settings of the tests do not."""


@dataclass(frozen=True)
class PostgresServers:
    """The URLs of the API servers, and a client that is logged in to the first one."""

    binaries: Path
    scratch: Path
    database_url: str
    urls: list[str]
    client: Client
    cluster: int

    @property
    def token(self) -> str:
        """The access token of `client`."""
        tokens = self.client.tokens.load()
        assert tokens is not None
        return tokens.access

    def pgbench(self, script: str, *, clients: int, seconds: float) -> float:
        """Transactions per second of a pgbench script."""
        path = self.scratch / "script.sql"
        path.write_text(script)
        command = [str(self.binaries / "pgbench"), "-n", "-M", "prepared", "-f", str(path)]
        command += ["-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds))), self.database_url]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("tps = ")]
        return float(line.split()[2])


@contextmanager
def postgres_servers(count: int = 2) -> Iterator[PostgresServers]:
    """API servers without control loops on one PostgreSQL, with one user and one empty cluster."""
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory("hv-bench-"))
        binaries = find_binaries(scratch)
        url = stack.enter_context(running_postgres(binaries, scratch, **DURABLE))
        asyncio.run(upgrade(url))
        servers = [
            stack.enter_context(
                running_server(
                    scratch / f"api-{number}",
                    DATABASE_URL=url,
                    DEFAULT_RUNTIME="simulated",
                    SECRET_KEY=SECRET,
                    ROLE="api",
                )
            )
            for number in range(count)
        ]
        client = stack.enter_context(registered_client(servers[0].url))
        cluster = client.clusters.create("bench", {"total_cpu_cores": 8, "total_ram_gb": 32})["id"]
        yield PostgresServers(binaries, scratch, url, [server.url for server in servers], client, cluster)
