"""A pseudo-terminal of a given width for the command line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import forkserver
from tests.support.wait import PROMPT

LINES = 60
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A terminal of `columns` cells, and what was written to it."""

    columns: int
    side: str
    descriptor: int
    written: bytes = b""

    @property
    def text(self) -> str:
        """The output without control sequences."""
        return without_sequences(self.written.decode(errors="replace")).replace("\r\n", "\n")

    def read_while(self, running: Callable[[], bool], within: float = PROMPT) -> None:
        """Read until `running` returns False and nothing is left. Raises TimeoutError."""
        deadline = time.monotonic() + within
        while True:
            is_last = not running()
            while self._read():
                pass
            if is_last:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the command still runs; its output: {self.text[-2000:]}")

    def _read(self) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], 0.01)
        if not ready:
            return False
        try:
            chunk = os.read(self.descriptor, 65536)
        except OSError:
            # A pseudo-terminal without a process on the other side ends with an error.
            return False
        self.written += chunk
        return bool(chunk)


def without_sequences(text: str) -> str:
    """The text without colours and cursor movements."""
    return _SEQUENCE.sub("", text)


@contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """A new terminal."""
    descriptor, side = pty.openpty()
    try:
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        yield Terminal(columns, os.ttyname(side), descriptor)
    finally:
        os.close(side)
        os.close(descriptor)


def start_on(
    opened: Terminal, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> forkserver.Process:
    """Start `hypervisor` with its output on the terminal."""
    order = forkserver.Order(arguments, environment, folder, stdout=opened.side, stderr=opened.side)
    return forkserver.start(order)


def shown_on_terminal(
    columns: int, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> str:
    """The output of a command that ends by itself, without control sequences."""
    with terminal(columns) as opened:
        process = start_on(opened, arguments, environment, folder)
        try:
            opened.read_while(lambda: process.poll() is None)
        finally:
            process.kill()
        return opened.text
