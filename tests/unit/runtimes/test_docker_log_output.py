"""Places in the output of a container: a cut stream goes on with the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.runtimes.docker import line_merger, record_file
from hypervisor.runtimes.docker.log_output import Output
from hypervisor.runtimes.docker.log_place import Place
from hypervisor.runtimes.docker.log_records import Record, frame, seconds, take_records, until_repeated

STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 2]), st.integers(0, 2), st.sampled_from([b"tick\n", b"\n", b"part", b"x" * 20])
    ),
    max_size=30,
)


def records_of(steps: Iterable[tuple[int, int, bytes]]) -> list[Record]:
    """Records with ascending times; several may have the same time."""
    steps = list(steps)
    times = accumulate(later for _, later, _ in steps)
    return [
        Record(stream, b"2026-01-01T00:00:00.%09dZ" % time, data)
        for (stream, _, data), time in zip(steps, times, strict=True)
    ]


def read(output: Output, batches: Iterable[Sequence[Record]]) -> tuple[list[bytes], list[str]]:
    chunks = [output.feed(batch) for batch in batches]
    chunks.append(output.end())
    return [chunk.data for chunk in chunks], [chunk.position for chunk in chunks]


@pytest.mark.parametrize("lacks_line_ends", [False, True])
@given(steps=STEPS, sizes=st.lists(st.integers(1, 4), min_size=30, max_size=30), deleted=st.integers(0, 30))
def test_a_cut_stream_goes_on_with_the_same_bytes(
    lacks_line_ends: bool, steps: list[tuple[int, int, bytes]], sizes: list[int], deleted: int
) -> None:
    """Also if the engine has deleted records before the place, and for lines that are too long to hold."""
    records = records_of(steps)
    ends = [0, *accumulate(sizes)]
    batches = [records[begin:end] for begin, end in pairwise(ends)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_merger, "HELD_BYTES", 50)
        data, positions = read(Output(Place(), lacks_line_ends=lacks_line_ends), batches)
        for number, position in enumerate(positions[:-1]):
            place = Place.parse(position)
            assert place is not None
            output = Output(place, lacks_line_ends=lacks_line_ends)
            first = min(deleted, first_after(place, records))
            assert b"".join(read(output, [records[first:]])[0]) == b"".join(data[number + 1 :])


def first_after(place: Place, records: Sequence[Record]) -> int:
    """How many records are before the place on each stream: so many can be deleted."""
    if not records or len(place.marks) < len({record.stream for record in records}):
        return 0
    earliest = min(mark.time for mark in place.marks.values())
    return sum(record.time < earliest for record in records)


@given(STEPS)
def test_records_are_frames_and_back(steps: list[tuple[int, int, bytes]]) -> None:
    records = records_of(steps)
    buffer = bytearray(b"".join(map(frame, records)) + b"\1\0")
    assert take_records(buffer) == records
    assert buffer == b"\1\0"


def test_a_file_of_records_drops_its_beginning(tmp_path: Path) -> None:
    path, records = tmp_path / "a.gz", records_of([(1, 1, b"%05d\n" % number) for number in range(1000)])
    with record_file.RecordWriter(path, lacks_line_ends=True) as file:
        file.write(records[:500])
        file.write(records[500:])
    assert file.output_bytes == 6000
    record_file.drop_beginning(path, 601)
    assert record_file.lacks_line_ends(path)
    assert record_file.count(path) == 899
    with record_file.RecordReader(path, 890) as reader:
        assert [record for batch in iter(reader.read, None) for record in batch] == records[991:]


def test_a_request_begins_a_little_before_the_place() -> None:
    place = Place.parse("r0.0,1~2~2026-01-01T00:00:02.5Z,2~1~2026-01-01T00:00:03Z")
    assert place is not None
    assert place.window == {"since": "1767225601.5"}
    assert seconds(b"1970-01-01T00:00:00.25Z", 9) == "0.25"


@given(STEPS, st.data())
def test_a_file_that_the_engine_sends_again_is_not_read_again(
    steps: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    records = records_of([(1, later + 1, text) for _, later, text in steps])
    begin = data.draw(st.integers(0, max(0, len(records) - 1)))
    cut = data.draw(st.integers(0, len(records)))
    latest: dict[int, bytes] = {}
    repeated = [*records, *records[begin:]] if len(records) - begin > 1 else records
    in_order = [*until_repeated(repeated[:cut], latest), *until_repeated(repeated[cut:], latest)]
    assert in_order == records
