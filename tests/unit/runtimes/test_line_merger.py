"""Lines of stdout and stderr stay whole when the engine interleaves the streams."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.runtimes.docker import line_merger
from hypervisor.runtimes.docker.line_merger import HELD_BYTES, LineMerger

CHUNKS = st.lists(st.tuples(st.sampled_from([1, 2]), st.text("ab\n", max_size=12).map(str.encode)))


@given(CHUNKS)
def test_each_line_of_each_stream_is_a_line(chunks: list[tuple[int, bytes]]) -> None:
    lines = {
        stream: b"".join(data for other, data in chunks if other == stream).split(b"\n") for stream in (1, 2)
    }
    written = [line for stream in lines.values() for line in (stream if stream[-1] else stream[:-1])]
    assert sorted(merged(chunks).removesuffix(b"\n").split(b"\n") if written else []) == sorted(written)


@given(st.lists(st.binary()))
def test_one_stream_is_unchanged(chunks: list[bytes]) -> None:
    assert merged([(1, chunk) for chunk in chunks]) == b"".join(chunks)


def test_a_long_line_passes_through_and_the_other_stream_waits_for_its_end() -> None:
    merger, block = LineMerger(), b"x" * 65536
    returned = b"".join(merger.feed(1, block) for _ in range(40))
    assert len(returned) >= 40 * 65536 - HELD_BYTES
    assert merger.feed(2, b"error\n") == b""
    assert merger.feed(1, b"y\nz") == b"y\nerror\n"
    assert merger.feed(2, b"more\n") == b"more\n"
    assert merger.end() == b"z"


def test_a_long_line_is_broken_before_the_other_stream_fills_the_memory() -> None:
    merger = LineMerger()
    merger.feed(1, b"x" * (HELD_BYTES + 1))
    returned = [merger.feed(2, b"error\n" * 10_000) for _ in range(30)]
    assert b"".join(returned).startswith(b"\nerror\n")
    assert b"".join(returned).count(b"error\n") == 300_000
    assert merger.feed(1, b"x\n") == b"x\n"


def test_unfinished_lines_of_two_streams_are_two_lines() -> None:
    assert merged([(1, b"out"), (2, b"err")]) == b"out\nerr"
    merger = LineMerger()
    merger.feed(1, b"x" * (line_merger.HELD_BYTES + 1))
    merger.feed(2, b"err")
    assert merger.end() == b"\nerr"


def merged(chunks: list[tuple[int, bytes]]) -> bytes:
    merger = LineMerger()
    return b"".join([merger.feed(stream, data) for stream, data in chunks] + [merger.end()])
