"""The stage: a temporary folder, a real server in it, and the promise that nothing of either remains."""

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

READY_WITHIN = 90.0
STOP_WITHIN = 30.0
LOG_TAIL = 12
_READY = re.compile(r"ready at (http://\S+)")
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")


class DemoServer:
    """One server on one folder. `shared` is where workloads hand files to each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.url = ""
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start `hypervisor serve` on a new SQLite file and a free port; return when it answers."""
        self.shared.mkdir()
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then ends the server in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hypervisor", "serve"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = until("the server answers", self._find_url, within=READY_WITHIN, seen=self.log_tail)

    def client(self) -> Client:
        return Client(self.url)

    def close(self) -> None:
        """End the server; workloads would go on, as they do in earnest."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN)

    def remaining(self) -> list[psutil.Process]:
        """Living processes that work in this folder: the server, supervisors, workloads."""
        folder = str(self.folder)
        return [each for each in psutil.process_iter() if each.pid != os.getpid() and _works_in(each, folder)]

    def sweep(self) -> None:
        """After a failure: end what is left."""
        for process in self.remaining():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def log_tail(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return " / ".join(lines[-LOG_TAIL:]) or "an empty log"
        return "no log"

    def _find_url(self) -> str | None:
        if self._process is not None and self._process.poll() is not None:
            raise DemoFailed(f"the server ended at its start: {self.log_tail()}")
        found = _READY.search(self._log.read_text(errors="replace"))
        return found[1] if found else None

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's own settings: the demo is the same everywhere."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return kept | {
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
    """An open stage that is taken down whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="hypervisor-demo-")).resolve()
    stage = DemoServer(folder)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        stage.sweep()
        shutil.rmtree(folder, ignore_errors=True)


def _works_in(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())
    except psutil.Error:
        return False
