"""The text of a file, bounded and decoded."""

from __future__ import annotations

import os
import re
import select
import stat
import sys
from typing import BinaryIO

from hypervisor.cli.spec_file.refusal import Refused

MAX_BYTES = 1024 * 1024
"""As for a request body."""

WRITER_SECONDS = 10.0
"""How long a named pipe may be without a writer."""

# YAML 1.1 takes them for line breaks, which YAML 1.2 and every editor do not.
_OTHER_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


def read_text(path: str) -> str:
    """The text of a file; `-` is standard input.

    Raises Refused, and OSError for a file that cannot be opened or read.
    """
    if path == "-":
        return _decoded(_bounded(sys.stdin.buffer))
    with open(path, "rb", opener=_open) as file:
        return _decoded(_bounded(file))


def line_at(text: str | bytes, position: int) -> int:
    """The line of a position, from 1."""
    before = text[:position]
    return 1 + (before.count("\n") if isinstance(before, str) else before.count(b"\n"))


def _open(path: str, flags: int) -> int:
    """Open without waiting for the writer of a named pipe; then wait for a bounded time."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            _wait_for_writer(descriptor)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for_writer(descriptor: int) -> None:
    readable, _, _ = select.select([descriptor], [], [], WRITER_SECONDS)
    if readable:
        return
    # A writer that has not written yet makes the read fail; without one the pipe is at its end.
    try:
        os.read(descriptor, 1)
    except BlockingIOError:
        return
    raise Refused(None, f"nothing writes to this pipe (waited {WRITER_SECONDS:.0f} s)")


def _bounded(file: BinaryIO) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Refused(None, "larger than 1 MiB, the limit for one request; submit it in parts")
    return data


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused(None, "UTF-16, not UTF-8: save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(
            line_at(data, error.start), f"not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8"
        ) from None
    if found := _OTHER_LINE_BREAKS.search(text):
        code = f"\\u{ord(found[0]):04x}"
        raise Refused(
            line_at(text, found.start()),
            f"the character {code} is a line break in some versions of YAML only: "
            f"write it as {code} in double quotes",
        )
    return text
