"""A real `hypervisor serve` for end-to-end tests, with its own process, SQLite file, data folder and port."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from hypervisor.addresses import local_host
from tests.support import forkserver
from tests.support.forkserver import Order
from tests.support.servers import free_port, stop, tail, wait_until_ready
from tests.support.wait import PROMPT


@dataclass
class HypervisorServer:
    """One server on one folder. A restart keeps the database, the data folder and the port."""

    folder: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    process: forkserver.Process | None = None

    @property
    def url(self) -> str:
        return f"http://{local_host(self.environment['HOST'])}:{self.port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the server process, without the caller's settings."""
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
        }
        defaults = {
            "DATABASE_URL": f"sqlite:///{self.folder / 'hypervisor.db'}",
            "DATA_DIR": str(self.data_dir),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DEFAULT_RUNTIME": "process",
            "SCHEDULER_INTERVAL": "1",
            "RATE_LIMIT": "",
        }
        return inherited | defaults | dict(self.settings)

    def start(self) -> None:
        """Start the server and wait until `/readyz` returns 200; AssertionError with its log otherwise."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The folder has no .env, and files that a workload writes into its working directory stay in it.
        log = str(self.log)
        order = Order(["serve"], self.environment, self.folder, stdout=log, stderr=log)
        self.process = forkserver.start(order)
        if not wait_until_ready(self.process, self.answers, log=self.log):
            raise AssertionError(f"the server ended at its start; its log:\n{tail(self.log, 40)}")

    def stop(self) -> None:
        """End the server with SIGTERM; its workloads keep running."""
        if self.process is not None:
            stop(self.process, signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL; its workloads keep running."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PROMPT)

    def close(self) -> None:
        """Stop the server and all its workloads."""
        self.stop()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """The live processes of this server's folder: supervisors and workloads, wherever they went."""
        folder = str(self.folder)
        others = (process for process in psutil.process_iter() if process.pid != os.getpid())
        found = {process.pid: process for process in others if _belongs_to(process, folder)}
        for process in list(found.values()):
            with suppress(psutil.NoSuchProcess):
                found |= {child.pid: child for child in process.children(recursive=True)}
        return list(found.values())

    def answers(self) -> bool:
        """Whether the server is ready now."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx2.HTTPError:
            return False


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[HypervisorServer]:
    """A started server; `settings` are environment variables. Ends all its processes afterwards."""
    server = HypervisorServer(folder, free_port(), settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HypervisorServer]:
    """A fresh server on the process runtime."""
    with running_server(tmp_path / "server") as started:
        yield started


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HypervisorServer]:
    """One server for the independent tests of a module; each test registers its own users."""
    with running_server(tmp_path_factory.mktemp("server")) as started:
        yield started


def name_of(process: psutil.Process) -> str | None:
    """The name of the process, or None if it has ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return None


def _belongs_to(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())
    except psutil.Error:
        return False
