"""A program that starts supervisors as child subreapers, one for each request, until its standard input ends.

A process that leaves its session and loses its parent becomes a child of the nearest subreaper, so it stays a
descendant of the supervisor. Only a process itself can become a subreaper, which a shell cannot, and code
between fork and exec is safe only in a process with one thread. So the server starts this program once, by
its path and without the package. See `spawner.SubreaperSpawner` for the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h. Survives exec; children do not inherit it."""

LENGTH, REPLY = struct.Struct("!I"), struct.Struct("!II")
STREAMS = 3
REAP_SECONDS = 1.0


def main() -> None:
    """Serve requests until the connection ends."""
    connection = socket.socket(fileno=0)
    become_subreaper = partial(ctypes.CDLL(None).prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        if select.select([connection], [], [], REAP_SECONDS)[0]:
            header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, STREAMS)
            if len(header) < LENGTH.size:
                return
            request = json.loads(_receive(connection, LENGTH.unpack(header)[0]))
            connection.sendall(REPLY.pack(*_start(request, streams, become_subreaper)))
            # Until the server has identified the child it is not reaped, so its pid is not reused.
            connection.recv(1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _start(request: Any, streams: Sequence[int], become_subreaper: Callable[[], object]) -> tuple[int, int]:
    """The pid of the new supervisor, or 0; and the error number, or 0."""
    stdin, stdout, stderr = streams
    try:
        child = subprocess.Popen(  # noqa: S603 - the server has composed the command
            request["argv"],
            cwd=request["cwd"],
            env=request["env"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=become_subreaper,
        )
    except OSError as error:
        return 0, error.errno or 0
    finally:
        for stream in streams:
            os.close(stream)
    # With a return code Popen does not reap the child.
    child.returncode = 0
    return child.pid, 0


def _receive(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size and (part := connection.recv(size - len(content))):
        content += part
    return content


if __name__ == "__main__":
    main()
