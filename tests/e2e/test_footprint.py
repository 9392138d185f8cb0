"""The memory of an idle server."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.server import HypervisorServer
from tests.support.servers import free_port, spawn, stop, wait_until_ready

MOST_BYTES = 150e6
"""The documented limit. A sixth of it was free at the time of writing, as a margin for larger libraries."""


@pytest.mark.skipif(sys.platform != "linux", reason="what counts as resident differs elsewhere")
def test_the_first_start_of_a_server_needs_less_memory_than_documented(tmp_path: Path) -> None:
    """A separate process, because the servers of other tests are forked from a larger process."""
    server = HypervisorServer(tmp_path, free_port())
    settings = [f"{name}={value}" for name, value in server.environment.items()]
    command = ["env", "-i", "-C", str(tmp_path), *settings, sys.executable, "-m", "hypervisor", "serve"]
    process = spawn(command, log=server.log)
    try:
        assert wait_until_ready(process, server.answers, log=server.log)
        assert psutil.Process(process.pid).memory_info().rss < MOST_BYTES
    finally:
        stop(process, signal.SIGTERM)
