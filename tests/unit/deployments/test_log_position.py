"""The place in a log from which a broken stream goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.deployments.history.log_position import (
    WINDOW,
    LogMoved,
    LogPosition,
    PositionTracker,
    after,
    offset_of,
)

chunked = st.lists(
    st.binary(max_size=WINDOW * 2) | st.sampled_from([b"x\n", b"\n", b"tick\ntick\n"]), max_size=20
)


async def chunks(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def tracked(parts: Sequence[bytes]) -> LogPosition:
    tracker = PositionTracker(LogPosition(1))
    for part in parts:
        tracker.feed(part)
    return tracker.position


@given(sent=chunked, later=chunked)
async def test_a_stream_from_the_beginning_goes_on_at_its_last_line(
    sent: list[bytes], later: list[bytes]
) -> None:
    position = tracked(sent)
    log = b"".join(sent)
    assert position.sent == log.rfind(b"\n") + 1
    assert log[: position.sent].endswith(position.before)
    stored = [*sent, *later]
    offset = await offset_of(position, chunks(stored))
    assert offset == position.sent
    rest = b"".join([data async for data in after(offset, position, chunks(stored))])
    assert rest == b"".join(stored)[position.sent :]


@given(deleted=st.binary(max_size=300), sent=chunked, later=st.binary(max_size=300))
async def test_a_stream_of_the_last_lines_goes_on_too(
    deleted: bytes, sent: list[bytes], later: bytes
) -> None:
    """Output before the stream is stored; each line is unique, as the place is found by its content."""
    lines = [b"%d %s\n" % (number, part.replace(b"\n", b"")) for number, part in enumerate(sent)]
    position = tracked(lines)
    older = deleted.replace(b"\n", b"") + b"\n" if deleted else b""
    offset = await offset_of(position, chunks([older, *lines, later]))
    assert offset == (len(older) + position.sent if lines else 0)


async def test_after_a_rotation_the_place_is_found_in_what_is_left() -> None:
    lines = [b"%d\n" % number for number in range(1000)]
    position = tracked(lines[:900])
    left = lines[700:]
    offset = await offset_of(position, chunks(left))
    assert b"".join(left)[offset:] == b"".join(lines[900:])


async def test_all_output_is_new_when_what_was_sent_is_deleted() -> None:
    position = tracked([b"old\n" * 100])
    assert await offset_of(position, chunks([b"new\n" * 100])) == 0


async def test_a_deletion_between_two_reads_is_noticed() -> None:
    position = tracked([b"1\n2\n3\n"])
    with pytest.raises(LogMoved):
        [data async for data in after(6, position, chunks([b"3\n4\n5\n6\n"]))]


@given(st.binary(max_size=WINDOW), st.integers(1, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_a_position_is_text_and_back(before: bytes, attempt: int, sent: int) -> None:
    position = LogPosition(attempt, sent, before)
    assert LogPosition.parse(str(position)) == position
    assert str(position).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1.2",
        "0.0.",
        "1.-1.",
        "1.1.?",
        "1.1.YQ",
        "1.+1.",
        "01.1.",
        "a.b.c",
        "1.1.YQ==.",
        "9" * 20 + ".0.",
    ],
)
def test_other_text_is_no_position(text: str) -> None:
    assert LogPosition.parse(text) is None
