"""The place in the log of an attempt from which a broken stream goes on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"([1-9][0-9]{0,8})\.([!-~]{1,200})")


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The number of an attempt, and a position in its log, see `hypervisor.runtimes.protocol.LogChunk`."""

    attempt: int
    position: str

    def __str__(self) -> str:
        return f"{self.attempt}.{self.position}"

    @classmethod
    def parse(cls, text: str) -> LogPosition | None:
        """The place in an event of a stream; None for other text."""
        match = _TEXT.fullmatch(text)
        return cls(int(match[1]), match[2]) if match else None
