"""Merges stdout and stderr of a container line by line; no I/O."""

from __future__ import annotations

from typing import Final

HELD_BYTES: Final = 1024 * 1024
"""Bytes of unfinished lines that are held back for each stream."""


class LineMerger:
    """Takes the chunks of several streams and returns one sequence of bytes, in which lines stay whole.

    A line longer than HELD_BYTES is returned as it arrives, and the other streams wait for its end. If a
    waiting stream exceeds HELD_BYTES too, the long line is broken: that bounds the memory.
    """

    def __init__(self) -> None:
        self._held: dict[int, bytearray] = {}
        self._open: int | None = None
        """The stream that has returned a part of an unfinished line."""

    def feed(self, stream: int, data: bytes) -> bytes:
        """Add a chunk of a stream. Return the next bytes, if there are any."""
        held = self._held.setdefault(stream, bytearray())
        held += data
        merged = b""
        if self._open not in (None, stream):
            if len(held) <= HELD_BYTES:
                return b""
            self._open, merged = None, b"\n"
        merged += self._take(stream)
        for waiting in self._held:
            if self._open is None:
                merged += self._take(waiting)
        return merged

    def end(self) -> bytes:
        """The rest. Unfinished lines of different streams become different lines."""
        merged, is_unfinished = b"", self._open is not None
        if self._open is not None:
            merged += self._held.pop(self._open)
        for held in self._held.values():
            if held:
                merged += (b"\n" if is_unfinished else b"") + held
                is_unfinished = not held.endswith(b"\n")
        self._held, self._open = {}, None
        return merged

    def _take(self, stream: int) -> bytes:
        """The finished lines of the stream, and an unfinished one that is open or too long."""
        held = self._held[stream]
        size = held.rfind(b"\n") + 1
        if size:
            self._open = None
        elif self._open == stream or len(held) > HELD_BYTES:
            self._open, size = stream, len(held)
        taken = bytes(held[:size])
        del held[:size]
        return taken
