"""What a server does not load before it is needed: each of these takes megabytes and a part of the start."""

from __future__ import annotations

import subprocess
import sys

LARGE = {
    "aiohttp",
    "alembic",
    "asyncpg",
    "hypervisor.client",
    "httpx2",
    "opentelemetry.sdk",
    "ortools",
    "psutil",
    "redis",
    "starlette_admin",
    "websockets",
}
SERVER_MODULES = "hypervisor.cli.main, hypervisor.cli.commands.serve.serve, hypervisor.app"
LOADED = f"import sys, {SERVER_MODULES}; print(*sys.modules)"


def test_a_server_on_sqlite_loads_no_client_of_what_it_has_not() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "hypervisor.bootstrap" in loaded
    assert loaded & LARGE == set()
