"""Finds the beginning of the last lines of a stored log."""

from __future__ import annotations

from collections.abc import Callable

BLOCK = 256 * 1024


def tail_position(read: Callable[[int, int], bytes], begin: int, end: int, lines: int) -> int:
    """The position where the last `lines` lines between `begin` and `end` begin.

    `read(position, size)` returns the bytes from a position. At most BLOCK bytes are in memory.
    """
    if lines <= 0:
        return end
    position, needed = end, lines
    while position > begin:
        start = max(begin, position - BLOCK)
        block = read(start, position - start)
        if position == end and block.endswith(b"\n"):
            needed += 1
        found = block.count(b"\n")
        if found >= needed:
            return start + _nth_newline_from_end(block, needed) + 1
        needed -= found
        position = start
    return begin


def _nth_newline_from_end(block: bytes, count: int) -> int:
    index = len(block)
    for _ in range(count):
        index = block.rindex(b"\n", 0, index)
    return index
