"""Lines of a log: any bytes, in any chunks, are the same lines for every reader."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel import log_text
from hypervisor.kernel.log_text import (
    MAX_EVENT_BYTES,
    MAX_PIECE,
    LogDecoder,
    events_of,
    lines_of,
    piece_of,
    split_lines,
)

SEPARATORS = "\r\f\v\x00\x1b\x1c\x1d\x1e\x85\u2028\u2029\ufeff :"
"""What other readers of lines split at, cut off, or take for syntax."""

TEXTS = st.text(st.sampled_from("\n" + SEPARATORS + "aé語🙂") | st.characters(exclude_categories=["Cs"]))
BYTES = st.binary() | TEXTS.map(str.encode)


@given(BYTES, st.data())
def test_the_lines_do_not_depend_on_the_chunks(data: bytes, draw: st.DataObject) -> None:
    pieces = decoded(cut(data, draw), draw)
    text = data.decode(errors="replace")
    assert "".join(pieces) == text
    assert list(lines_of(pieces)) == split_lines(text)


@given(BYTES, st.data())
def test_a_reader_of_the_stream_has_the_text_of_the_log(data: bytes, draw: st.DataObject) -> None:
    events = b"".join(events_of([piece]) for piece in decoded([data], draw))
    assert "".join(read(cut(events, draw))) == data.decode(errors="replace")


def test_a_line_ends_at_a_line_feed_only() -> None:
    line = f"a{SEPARATORS}b"
    assert split_lines(f"{line}\n\n{line}") == [line, "", line]
    assert split_lines("") == []
    assert split_lines("\n") == [""]
    assert split_lines("one\n") == ["one"]


@pytest.mark.parametrize("character", ["x", "\r", "語", "🙂"])
def test_every_event_of_a_very_long_line_fits(character: str) -> None:
    text = character * (3 * MAX_PIECE + 7) + "\nend\n"
    decoder = LogDecoder()
    pieces = [*decoder.feed(text.encode()), *decoder.end()]
    events = [events_of([piece]) for piece in pieces]
    assert max(map(len, events)) <= MAX_EVENT_BYTES
    assert "".join(read(events)) == text
    assert list(lines_of(pieces)) == text.split("\n")[:-1]


def test_an_endless_line_does_not_fill_the_memory() -> None:
    decoder = LogDecoder()
    lengths = [len(piece) for _ in range(40) for piece in decoder.feed(b"x" * 65536)]
    assert lengths == [MAX_PIECE] * 19
    assert sum(map(len, decoder.end())) == 40 * 65536 - sum(lengths)


def test_a_short_line_is_one_plain_event() -> None:
    assert events_of(["one\n", "\n"]) == b"event: log\ndata: one\n\nevent: log\ndata: \n\n"


def cut(data: bytes, draw: st.DataObject) -> list[bytes]:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def decoded(chunks: list[bytes], draw: st.DataObject) -> list[str]:
    """The pieces, with an unfinished line sent after some chunks and a small limit of a piece."""
    decoder, pieces, limit = LogDecoder(), [], log_text.MAX_PIECE
    log_text.MAX_PIECE = draw.draw(st.integers(1, 5))
    try:
        for chunk in chunks:
            pieces += decoder.feed(chunk)
            if draw.draw(st.booleans()):
                pieces += decoder.flush()
        return pieces + decoder.end()
    finally:
        log_text.MAX_PIECE = limit


def read(chunks: list[bytes]) -> list[str]:
    """The pieces that a client of the stream reads."""
    response = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        content=iter(chunks),
        request=httpx2.Request("GET", "http://server"),
    )
    pieces, is_partial = [], False
    for message in httpx2.EventSource(response, MAX_EVENT_BYTES):
        if message.event == log_text.LOG:
            pieces.append(piece_of(message.data, partial=is_partial))
        is_partial = message.event == log_text.PARTIAL
    return pieces
