"""The place in the log of an attempt from which a broken stream goes on; no I/O.

A runtime numbers no bytes: it deletes the oldest ones, and a removed instance has its log elsewhere. A place
is therefore the number of bytes that the stream has sent, and the last of those bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

WINDOW = 96
"""The most bytes before the place that identify it."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The end of a line in the log of an attempt: `sent` bytes after the beginning of the stream or later.

    `before` is the output before it; empty at the beginning of the log.
    """

    attempt: int
    sent: int = 0
    before: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.attempt}.{self.sent}.{base64.urlsafe_b64encode(self.before).decode()}"

    @classmethod
    def parse(cls, text: str) -> LogPosition | None:
        """The place in an event of a stream; None for other text."""
        try:
            attempt, sent, before = text.split(".")
            window = base64.b64decode(before, altchars=b"-_", validate=True)
            position = cls(int(attempt), int(sent), window)
        except (ValueError, binascii.Error):
            return None
        is_valid = 1 <= position.attempt < 2**31 and 0 <= position.sent < 2**63
        return position if is_valid and len(window) <= WINDOW and str(position) == text else None


class PositionTracker:
    """The place after the last finished line of a stream."""

    def __init__(self, position: LogPosition) -> None:
        self.position = position
        self._open = b""
        self._open_size = 0

    def feed(self, data: bytes) -> bool:
        """Add output that is sent. Returns whether the place has moved."""
        end = data.rfind(b"\n") + 1
        if end:
            last, sent = self.position, self._open_size + end
            before = (last.before + self._open + data[:end])[-WINDOW:]
            self.position = LogPosition(last.attempt, last.sent + sent, before)
            self._open, self._open_size = b"", 0
        rest = data[end:]
        self._open = (self._open + rest)[-WINDOW:]
        self._open_size += len(rest)
        return end > 0


async def offset_of(position: LogPosition, output: AsyncIterator[bytes]) -> int:
    """The offset of the place in the stored output, oldest first.

    Of several matches it is the first that the bytes sent allow, else (the oldest output was deleted) the
    last. It is 0 without a match: all output that was sent is deleted.
    """
    window, offset, carry, last = position.before, 0, b"", 0
    if not window:
        return 0
    async for data in output:
        block, begin = carry + data, offset - len(carry)
        found = block.find(window)
        while found >= 0:
            last = begin + found + len(window)
            if last >= position.sent:
                return last
            found = block.find(window, found + 1)
        carry = block[-(len(window) - 1) :] if len(window) > 1 else b""
        offset += len(data)
    return last


async def after(offset: int, position: LogPosition, output: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The output after `offset`. Raises LogMoved if the place is not there: old output was deleted."""
    skipped, missing = b"", offset
    async for data in output:
        if missing:
            skipped = (skipped + data[:missing])[-WINDOW:]
            data, missing = data[missing:], missing - min(missing, len(data))
            if not missing and not skipped.endswith(position.before):
                raise LogMoved
        if data:
            yield data


class LogMoved(Exception):
    """The oldest output was deleted between two reads."""
