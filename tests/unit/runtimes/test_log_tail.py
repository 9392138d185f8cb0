"""The beginning of the last lines of a stored log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.runtimes import log_tail
from hypervisor.runtimes.log_tail import tail_position


@given(st.binary().map(lambda data: data.replace(b"\x00", b"\n")), st.integers(0, 8), st.integers(1, 7))
def test_the_tail_is_the_last_lines_whatever_the_blocks(data: bytes, count: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_tail, "BLOCK", block)
        position = tail_position(lambda start, size: data[start : start + size], 0, len(data), count)
    *lines, rest = data.split(b"\n")
    kept = [line + b"\n" for line in lines] + [rest] * bool(rest)
    assert data[position:] == b"".join(kept[len(kept) - min(count, len(kept)) :])


def test_a_line_longer_than_a_block_is_one_line() -> None:
    data = b"first\n" + b"x" * (3 * log_tail.BLOCK) + b"\nlast"

    def read(start: int, size: int) -> bytes:
        assert size <= log_tail.BLOCK
        return data[start : start + size]

    assert data[tail_position(read, 0, len(data), 2) :] == data[len("first\n") :]
    assert data[tail_position(read, 0, len(data), 1) :] == b"last"
