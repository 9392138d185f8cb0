"""A real `hypervisor serve` for end-to-end tests: its own process, SQLite file, data folder and port."""

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

from tests.support import forkserver
from tests.support.forkserver import Order
from tests.support.servers import free_port, stop, tail, wait_until_ready
from tests.support.wait import PROMPT


@dataclass
class HypervisorServer:
    """One server on one folder. Stopping and starting it again keeps database, data folder and port."""

    folder: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    process: forkserver.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def environment(self) -> dict[str, str]:
        """What the server process gets; nothing of the caller's own settings leaks in."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        mine = {
            "DATABASE_URL": f"sqlite:///{self.folder / 'hypervisor.db'}",
            "DATA_DIR": str(self.data_dir),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DEFAULT_RUNTIME": "process",
            "SCHEDULER_INTERVAL": "1",
            "RATE_LIMIT": "",
        }
        return kept | mine | dict(self.settings)

    def start(self) -> None:
        """Start it and wait until `/readyz` answers 200; AssertionError with its log when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The folder holds no .env, and whatever a workload writes by accident stays inside it.
        log = str(self.log)
        order = Order(["serve"], self.environment, self.folder, stdout=log, stderr=log)
        self.process = forkserver.start(order)
        if not wait_until_ready(self.process, self.answers, log=self.log):
            raise AssertionError(f"the server ended at its start; its log:\n{tail(self.log, 40)}")

    def stop(self) -> None:
        """End the server as an operator would (TERM); workloads go on."""
        if self.process is not None:
            stop(self.process, signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would (kill -9); workloads go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PROMPT)

    def close(self) -> None:
        """Stop the server and every workload that it has left behind."""
        self.stop()
        for left in self.processes():
            with suppress(psutil.NoSuchProcess):
                left.kill()

    def processes(self) -> list[psutil.Process]:
        """Every living process that works in this server's folder: supervisors and workloads."""
        folder = str(self.folder)
        others = (process for process in psutil.process_iter() if process.pid != os.getpid())
        return [process for process in others if _belongs_to(process, folder)]

    def answers(self) -> bool:
        """Whether it is ready now."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx2.HTTPError:
            return False


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[HypervisorServer]:
    """A started server; `settings` are environment variables. Leaves no process behind."""
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
    """One server for the tests of a module that do not mind each other (people with names of their own)."""
    with running_server(tmp_path_factory.mktemp("server")) as started:
        yield started


def name_of(process: psutil.Process) -> str | None:
    """The name of the program that it runs, None where it has ended meanwhile."""
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
