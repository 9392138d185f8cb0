"""`hypervisor` commands as processes of their own that need not import anything.

A command line spends most of its time on imports. One process, started on first use, imports what they all
need and forks once for each. What a command does at its own start is tested in `tests/unit/cli`.
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import hypervisor.cli
from hypervisor.cli.main import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class _Command:
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stdin: str


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, stdin: str, within: float
) -> tuple[int, str, str]:
    """Run `hypervisor` in `folder` to its end; exit code, stdout and stderr. AssertionError if that takes
    longer than `within` seconds.
    """
    server = _server()
    server.send(_Command(arguments, environment, folder, stdin))
    assert server.poll(within), f"hypervisor {' '.join(arguments)} took longer than {within:g} s"
    code, stdout, stderr = server.recv()
    return code, stdout, stderr


@cache
def _server() -> Connection:
    """It ends when this process does, because the other end of its pipe is closed then."""
    ours, theirs = Pipe()
    subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    return ours


def serve(descriptor: int) -> None:
    """What the forking process does until nobody asks any more."""
    requests = Connection(descriptor)
    for module in pkgutil.iter_modules(hypervisor.cli.__path__, "hypervisor.cli."):
        if module.name not in ("hypervisor.cli.main", "hypervisor.cli.server", "hypervisor.cli.serving"):
            import_module(module.name)
    while True:
        try:
            command: _Command = requests.recv()
        except EOFError:
            return
        requests.send(_run(command, requests))


def _run(command: _Command, requests: Connection) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(command.stdin.encode())
        stdin.seek(0)
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become(command, stdin, out, err)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), _content(out), _content(err)


def _become(command: _Command, *streams: IO[bytes]) -> None:
    """Be this command in the forked process; never returns."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.folder)
    sys.argv = ["hypervisor", *command.arguments]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()
