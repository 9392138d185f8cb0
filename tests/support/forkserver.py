"""`hypervisor` processes that are forked after the imports.

A command or a server spends most of its start on imports. One process, started on first use, imports all
modules and forks once for each run. A real start is tested by tests that run `python -m hypervisor`.
"""

from __future__ import annotations

import ctypes
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

import hypervisor.cli
from hypervisor.cli.main import main

ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Order:
    """One run of `hypervisor`, with the files of its standard streams."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stdin: str = os.devnull
    stdout: str = os.devnull
    stderr: str = os.devnull


class Process:
    """A forked `hypervisor`; the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, args: Sequence[str]) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None
        self._lock = Lock()

    def poll(self) -> int | None:
        # The exit status can be read only once.
        with self._lock:
            if self.returncode is None:
                self.returncode = _forker().ask(self.pid)
            return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        # The pid is not reused until the exit status was read.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(order: Order) -> Process:
    """Start `hypervisor`; it receives SIGTERM when the test process ends."""
    return Process(_forker().ask(order), ["hypervisor", *order.arguments])


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, stdin: str, within: float
) -> tuple[int, str, str]:
    """Run `hypervisor` in `folder` to its end; exit code, stdout and stderr. Raises subprocess.TimeoutExpired
    if that takes longer than `within` seconds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        stdin_file, out, err = (Path(scratch, name) for name in ("in", "out", "err"))
        stdin_file.write_text(stdin)
        process = start(Order(arguments, environment, folder, str(stdin_file), str(out), str(err)))
        try:
            code = process.wait(within)
        finally:
            process.kill()
        return code, _text(out), _text(err)


def _text(file: Path) -> str:
    """The content, in which carriage returns and bytes that are not UTF-8 stay."""
    return file.read_bytes().decode(errors="surrogateescape")


class _Forker:
    """Sends requests to the forking process, which ends when this process closes the pipe."""

    def __init__(self) -> None:
        self._requests, child_end = Pipe()
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({child_end.fileno()})"],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            pass_fds=[child_end.fileno()],
            start_new_session=True,
        )
        child_end.close()

    def ask(self, request: Order | int) -> Any:
        with self._lock:
            self._requests.send(request)
            return self._requests.recv()


@cache
def _forker() -> _Forker:
    return _Forker()


def serve(descriptor: int) -> None:
    """Serve requests until the pipe is closed. The response to an order is a pid, the response to a pid is
    its exit code or None.
    """
    requests = Connection(descriptor)
    import_module("hypervisor.app")
    for module in pkgutil.iter_modules(hypervisor.cli.__path__, "hypervisor.cli."):
        import_module(module.name)
    while True:
        try:
            request = requests.recv()
        except EOFError:
            return
        requests.send(_start(request, requests) if isinstance(request, Order) else _ended(request))


def _ended(pid: int) -> int | None:
    waited, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if waited else None


def _start(order: Order, requests: Connection) -> int:
    pid = os.fork()
    if pid == 0:
        requests.close()
        _become(order)
    return pid


def _become(order: Order) -> NoReturn:
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        for number, name in enumerate((order.stdin, order.stdout, order.stderr)):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
            os.dup2(os.open(name, flags, 0o644), number)
        # The streams of the forking process know whether its own files are terminals and can seek.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        os.environ.clear()
        os.environ.update(order.environment)
        os.chdir(order.folder)
        sys.argv = ["hypervisor", *order.arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
