"""Starts supervisors: as children of this process, or through a program that makes each a child subreaper."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hypervisor.runtimes.process import subreaper
from hypervisor.runtimes.process.procfs import ProcessIdentity


@dataclass(frozen=True, slots=True)
class Spawn:
    """A command to start as the leader of a new session. `streams` are stdin, stdout and stderr."""

    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    streams: tuple[int, int, int]


class Spawner(Protocol):
    """A way to start supervisors."""

    def spawn(self, request: Spawn) -> ProcessIdentity | None:
        """Start the command. None if it has ended already. Raises OSError, of the exec as well."""
        ...

    def close(self) -> None:
        """Release what the spawner holds. Started processes keep running."""
        ...


class DirectSpawner:
    """Starts children of this process, which must reap them."""

    def spawn(self, request: Spawn) -> ProcessIdentity | None:
        stdin, stdout, stderr = request.streams
        child = subprocess.Popen(  # noqa: S603 - running the tenant's command is what this is for
            request.argv,
            cwd=request.directory,
            env=request.env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        # The holder of the pidfd reaps the child. With a return code Popen does not warn about it.
        child.returncode = 0
        return ProcessIdentity.of(child.pid)

    def close(self) -> None:
        return


class SubreaperSpawner:
    """Starts child subreapers, see `subreaper`. The program starts with the first request."""

    def __init__(self) -> None:
        self._program: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def spawn(self, request: Spawn) -> ProcessIdentity | None:
        try:
            return self._request(self._open(), request)
        except (BrokenPipeError, ConnectionResetError):
            # The program was killed. What it started keeps running.
            self.close()
            return self._request(self._open(), request)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._program is not None:
            self._program.wait()
        self._program = self._connection = None

    def _open(self) -> socket.socket:
        if self._connection is None:
            self._connection, other = socket.socketpair()
            argv = [sys.executable, "-I", "-S", subreaper.__file__]
            with other:
                self._program = subprocess.Popen(  # noqa: S603 - a program of this package
                    argv,
                    stdin=other.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
        return self._connection

    @staticmethod
    def _request(connection: socket.socket, request: Spawn) -> ProcessIdentity | None:
        fields = {"argv": request.argv, "env": request.env, "cwd": str(request.directory)}
        message = json.dumps(fields).encode()
        socket.send_fds(connection, [subreaper.LENGTH.pack(len(message))], request.streams)
        connection.sendall(message)
        reply = connection.recv(subreaper.REPLY.size, socket.MSG_WAITALL)
        if len(reply) < subreaper.REPLY.size:
            raise ConnectionResetError
        pid, error = subreaper.REPLY.unpack(reply)
        identity = ProcessIdentity.of(pid) if pid else None
        connection.sendall(b"\0")
        if error:
            raise OSError(error, os.strerror(error))
        return identity
