"""Large packages that a server imports only on demand: each takes megabytes and start-up time."""

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


def test_a_server_on_sqlite_imports_no_large_package() -> None:
    result = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    loaded = set(result.stdout.split())
    assert "hypervisor.bootstrap" in loaded
    assert loaded & LARGE == set()
