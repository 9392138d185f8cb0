"""The refusal of a part of a file."""

from __future__ import annotations


class Refused(Exception):
    """A part of a file is refused: `line` counts from 1, None for the whole file."""

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
