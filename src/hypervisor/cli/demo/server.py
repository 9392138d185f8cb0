"""The server of the demo: a `hypervisor serve` process in a temporary folder, removed at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hypervisor.cli.demo.polling import DemoFailed, until
from hypervisor.client import Client

READY_TIMEOUT = 90.0
STOP_TIMEOUT = 30.0
"""Timeouts in seconds."""
LOG_TAIL = 12
"""Lines of the log in an error message."""
_READY = re.compile(r"ready at (http://\S+)")
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")


class DemoServer:
    """One server in one folder. Workloads exchange files in `shared`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.url = ""
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start `hypervisor serve` with a new SQLite file on a free port.

        Returns when the server is ready.
        """
        self.shared.mkdir()
        with self._log.open("wb") as log:
            # In a new session, so that Ctrl-C reaches only the demo, which then stops the server.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hypervisor", "serve"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = until("the server is ready", self._find_url, timeout=READY_TIMEOUT, observed=self.log_tail)

    def client(self) -> Client:
        """A new client of the server, without a session."""
        return Client(self.url)

    def close(self) -> None:
        """Stop the server. Workloads continue, as with any stop of a server."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)

    def remaining(self) -> list[psutil.Process]:
        """The live processes of this folder: the server, supervisors, workloads."""
        folder = str(self.folder)
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and _uses_folder(process, folder)
        ]

    def kill_remaining(self) -> None:
        """Kill the processes that are left after a failure."""
        for process in self.remaining():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def log_tail(self) -> str:
        """The last lines of the server's log, in one line."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return " / ".join(lines[-LOG_TAIL:]) or "an empty log"
        return "no log"

    def _find_url(self) -> str | None:
        if self._process is not None and self._process.poll() is not None:
            raise DemoFailed(f"the server did not start: {self.log_tail()}")
        found = _READY.search(self._log.read_text(errors="replace"))
        return found[1] if found else None

    def _environment(self) -> dict[str, str]:
        """The environment of the server, without the caller's settings, so that every run is the same."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return inherited | {
            "DATABASE_URL": f"sqlite:///{self.folder / 'demo.db'}",
            "DATA_DIR": str(self.folder / "data"),
            "DEFAULT_RUNTIME": "process",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "RATE_LIMIT": "",
            "SCHEDULER_INTERVAL": "1",
        }


@contextmanager
def demo_server() -> Iterator[DemoServer]:
    """A running server. At the end its processes and its folder are removed, after a failure too."""
    folder = Path(tempfile.mkdtemp(prefix="hypervisor-demo-")).resolve()
    server = DemoServer(folder)
    try:
        server.open()
        yield server
    finally:
        server.close()
        server.kill_remaining()
        shutil.rmtree(folder, ignore_errors=True)


def _uses_folder(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())
    except psutil.Error:
        return False
