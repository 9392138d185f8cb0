"""Writes the output of a workload to stdout: unchanged to a file or a pipe, filtered on a terminal."""

from __future__ import annotations

import codecs
import sys
from types import TracebackType
from typing import Self

from hypervisor.cli.core.terminal_text import TerminalFilter


class LogOutput:
    """Stdout, while the output of one workload is written. Each write is visible at once."""

    def __init__(self) -> None:
        self._filter = TerminalFilter() if sys.stdout.isatty() else None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_line_open = False

    def __enter__(self) -> Self:
        # Text that was printed before stays before the output.
        sys.stdout.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """On a terminal, end the last line, so that the prompt begins a line."""
        if self._filter is not None and not isinstance(error, BrokenPipeError):
            self._show(self._filter, self._decoder.decode(b"", final=True))
            self._write(_encoded(self._filter.end() + ("\n" if self._is_line_open else "")))

    def write(self, data: bytes) -> None:
        """Write bytes, which may end within a character."""
        if self._filter is None:
            self._write(data)
        else:
            self._show(self._filter, self._decoder.decode(data))

    def write_text(self, text: str) -> None:
        if self._filter is None:
            self._write(text.encode())
        else:
            self._show(self._filter, text)

    def _show(self, terminal: TerminalFilter, text: str) -> None:
        if text:
            self._is_line_open = not text.endswith("\n")
            self._write(_encoded(terminal.feed(text)))

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _encoded(text: str) -> bytes:
    return text.encode(sys.stdout.encoding or "utf-8", errors="replace")
