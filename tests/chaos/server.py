"""Servers that can be started, killed and started again many times in one test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.support.servers import free_port, tail
from tests.support.wait import eventually_sync

RECOVERS_WITHIN = 120.0
"""Seconds, for a machine that has much else to do."""


class Zygote:
    """Starts servers without importing the program again."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        assert self._answer() == "ready"

    def fork(self, environment: Mapping[str, str], folder: Path, log: Path) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"env": dict(environment), "folder": str(folder), "log": str(log)}) + "\n"
        )
        self._process.stdin.flush()
        return int(self._answer())

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass
class Server:
    """One server process after another, on one port, data folder and database."""

    zygote: Zygote
    folder: Path
    database_url: str
    role: str = "all"
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    pid: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"server-{self.port}.log"

    @property
    def is_alive(self) -> bool:
        """Whether the process is there and has not ended."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return self.pid > 0 and stat.rpartition(")")[2].split()[0] not in "ZX"

    def launch(self, failpoints: str = "", **settings: str) -> None:
        """Start it and do not wait."""
        environment = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
        }
        environment |= {
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "data"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ROLE": self.role,
            "DEFAULT_RUNTIME": "process",
            "SCHEDULER_INTERVAL": "1",
            "RATE_LIMIT": "",
            "SECRET_KEY": "k" * 40,
            **self.settings,
            **settings,
        }
        if failpoints:
            environment |= {"HYPERVISOR_FAILPOINTS": failpoints, "HYPERVISOR_TESTING": "1"}
        self.pid = self.zygote.fork(environment, self.folder, self.log)

    def start(self, failpoints: str = "", **settings: str) -> bool:
        """Start it; True when it answers. With failpoints it may die first, which is an error without."""
        for _ in range(3):
            self.launch(failpoints, **settings)
            eventually_sync(
                lambda: self.answers() or not self.is_alive, within=RECOVERS_WITHIN, what="the server answers"
            )
            if self.is_alive or "cannot listen" not in tail(self.log, 3):
                break
            # While it was dead, somebody else's connection has taken its port.
            self.port = free_port()
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
        if self.is_alive:
            os.kill(self.pid, number)

    def wait_for_death(self, within: float = RECOVERS_WITHIN) -> None:
        eventually_sync(lambda: not self.is_alive, within=within, what="the server is dead")
