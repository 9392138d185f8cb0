"""A durable PostgreSQL and API servers on it, as production has them: fsync on, several API replicas."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.people import somebody
from tests.support.postgres import find_binaries
from tests.support.postgres import running_server as running_postgres
from tests.support.server import running_server
from tests.support.servers import scratch_directory

from hypervisor.client import Client
from hypervisor.store.migrations.runner import upgrade

SECRET = "a key for measuring, the same for all replicas"
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}
"""Settings of a server that survives a power cut, unlike those for tests."""


@dataclass(frozen=True)
class Production:
    """`urls` are those of the API replicas; `client` is logged in to the first."""

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
        """Transactions a second of a pgbench script."""
        path = self.scratch / "script.sql"
        path.write_text(script)
        command = [str(self.binaries / "pgbench"), "-n", "-M", "prepared", "-f", str(path)]
        command += ["-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds))), self.database_url]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("tps = ")]
        return float(line.split()[2])


@contextmanager
def production(api_replicas: int = 2) -> Iterator[Production]:
    """Servers of the API alone (no loops) on one PostgreSQL, with one person and one empty cluster."""
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
            for number in range(api_replicas)
        ]
        client = stack.enter_context(somebody(servers[0].url))
        cluster = client.clusters.create("bench", {"total_cpu_cores": 8, "total_ram_gb": 32})["id"]
        yield Production(binaries, scratch, url, [one.url for one in servers], client, cluster)
