"""The lines of a log, and their form in the stream of a followed log. The server and the SDK share it.

A line ends at "\\n" and nowhere else. Carriage returns, form feeds and other separators are data. A last line
without "\\n" is a line.

A piece is text of one line, with "\\n" if the line ends there. The pieces of a log, joined, are its text. In
the stream a piece is an event `log` with the text as data. An event `partial` before it says that the line
goes on in the next piece. Server-sent events cannot carry a carriage return, so it is sent as a line break of
the data. No other line break occurs in a line.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

MAX_EVENT_BYTES = 1024 * 1024
"""The largest event of a stream."""

MAX_PIECE = MAX_EVENT_BYTES // 8
"""Characters after which a line goes on in another piece. A character takes up to 7 bytes of an event."""

LOG = "log"
PARTIAL = "partial"
POSITION = "position"

_PARTIAL_EVENT = f"event: {PARTIAL}\ndata: true\n\n"


class LogDecoder:
    """Cuts the bytes of a log into pieces, at any chunk boundaries. Invalid UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The pieces that these bytes complete."""
        return self._cut(self._decoder.decode(data))

    def flush(self) -> list[str]:
        """The unfinished line so far, without the bytes of an incomplete character."""
        rest, self._rest = self._rest, ""
        return [rest] if rest else []

    def end(self) -> list[str]:
        """The last pieces, at the end of the log."""
        return [*self._cut(self._decoder.decode(b"", final=True)), *self.flush()]

    def _cut(self, text: str) -> list[str]:
        *lines, rest = (self._rest + text).split("\n")
        pieces = [piece for line in lines for piece in _bounded(line + "\n")]
        *more, self._rest = _bounded(rest)
        return pieces + more


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a log, without their "\\n"."""
    parts: list[str] = []
    for piece in pieces:
        parts.append(piece)
        if piece.endswith("\n"):
            yield "".join(parts)[:-1]
            parts.clear()
    if parts:
        yield "".join(parts)


def split_lines(text: str) -> list[str]:
    """The lines of a whole log, without their "\\n"."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def events_of(pieces: Iterable[str]) -> bytes:
    """The pieces as server-sent events."""
    return "".join(map(_event, pieces)).encode()


def piece_of(data: str, *, partial: bool) -> str:
    """The piece in the data of an event `log`; `partial`: an event `partial` came before it."""
    text = data.replace("\n", "\r")
    return text if partial else f"{text}\n"


def _bounded(text: str) -> list[str]:
    if len(text) <= MAX_PIECE:
        return [text]
    return [text[start : start + MAX_PIECE] for start in range(0, len(text), MAX_PIECE)]


def _event(piece: str) -> str:
    is_end = piece.endswith("\n")
    data = (piece[:-1] if is_end else piece).replace("\r", "\ndata: ")
    return f"{'' if is_end else _PARTIAL_EVENT}event: {LOG}\ndata: {data}\n\n"
