"""Chunks of long key lists, one IN clause each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

IN_CHUNK = 500
"""SQLite allows 32,766 parameters per statement, but query plans get worse long before that."""

T = TypeVar("T")


def chunks(keys: Sequence[T], size: int = IN_CHUNK) -> list[Sequence[T]]:
    """Cut a list of keys into lists of at most `size`, each short enough for one IN."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]
