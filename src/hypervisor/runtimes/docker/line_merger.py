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

    def __init__(self, open_stream: int = 0) -> None:
        self._held: dict[int, bytearray] = {}
        self.open = open_stream
        """The stream that has returned a part of an unfinished line; 0 for none."""

    def held(self, stream: int) -> int:
        """How many bytes of the stream are held back."""
        return len(self._held.get(stream, b""))

    def feed(self, stream: int, data: bytes) -> bytes:
        """Add a chunk of a stream. Return the next bytes, if there are any."""
        held = self._held.setdefault(stream, bytearray())
        held += data
        merged = b""
        if self.open not in (0, stream):
            if len(held) <= HELD_BYTES:
                return b""
            self.open, merged = 0, b"\n"
        merged += self._take(stream)
        for waiting in sorted(self._held):
            if not self.open:
                merged += self._take(waiting)
        return merged

    def end(self) -> bytes:
        """The rest. Unfinished lines of different streams become different lines."""
        merged = bytes(self._held.pop(self.open, b""))
        for stream, held in sorted(self._held.items()):
            if held:
                merged += (b"\n" if self.open else b"") + held
                self.open = 0 if held.endswith(b"\n") else stream
        self._held = {}
        return merged

    def _take(self, stream: int) -> bytes:
        """The finished lines of the stream, and an unfinished one that is open or too long."""
        held = self._held[stream]
        size = held.rfind(b"\n") + 1
        if size:
            self.open = 0
        elif self.open == stream or len(held) > HELD_BYTES:
            self.open, size = stream, len(held)
        taken = bytes(held[:size])
        del held[:size]
        return taken
