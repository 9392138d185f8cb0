"""Servers that a test can start and kill many times."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.support.forkserver import Order, Process, start
from tests.support.servers import free_port, tail
from tests.support.wait import eventually_sync

RECOVERY_TIMEOUT = 120.0
"""Seconds, for a busy machine."""


@dataclass
class Server:
    """A server process that can be replaced, on one port, data folder and database."""

    folder: Path
    database_url: str
    role: str = "all"
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runtime(self) -> str:
        """The runtime of its clusters."""
        return self.settings.get("DEFAULT_RUNTIME", "process")

    @property
    def log(self) -> Path:
        return self.folder / f"server-{self.port}.log"

    @property
    def pid(self) -> int:
        """The pid of the last process."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process exists; a stopped one (SIGSTOP) is alive."""
        return self.process is not None and self.process.poll() is None

    def launch(self, failpoints: str = "", **settings: str) -> None:
        """Start the process without waiting."""
        environment = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
        }
        environment |= {
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "data"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ROLE": self.role,
            "DEFAULT_RUNTIME": self.runtime,
            "SCHEDULER_INTERVAL": "1",
            "RATE_LIMIT": "",
            "SECRET_KEY": "k" * 40,
            **self.settings,
            **settings,
        }
        if failpoints:
            environment |= {"HYPERVISOR_FAILPOINTS": failpoints, "HYPERVISOR_TESTING": "1"}
        log = str(self.log)
        self.process = start(Order(["serve"], environment, self.folder, stdout=log, stderr=log))

    def start(self, failpoints: str = "", **settings: str) -> bool:
        """Start the process; True when it responds. Only with failpoints may it die first."""
        self.launch(failpoints, **settings)
        eventually_sync(
            lambda: self.answers() or not self.is_alive, within=RECOVERY_TIMEOUT, what="the server responds"
        )
        assert self.is_alive or failpoints, f"the server ended at its start:\n{tail(self.log, 30)}"
        return self.is_alive

    def answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait_for_death()

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        self.wait_for_death()

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def wait_for_death(self, within: float = RECOVERY_TIMEOUT) -> None:
        eventually_sync(lambda: not self.is_alive, within=within, what="the server is dead")
