"""The log files of one instance, read as one stream."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.runtimes import log_tail
from hypervisor.runtimes.process.log_files import LogFiles, LogLimits, Position

PARTS = st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"\n")), max_size=5)


@given(PARTS, st.integers(1, 5), st.integers(1, 9))
def test_the_files_are_one_stream(parts: list[bytes], first: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = written(Path(name), parts, first)
        start, end = log.bounds()
        assert start <= end
        assert read_from(log, start, limit) == b"".join(parts)
        assert read_from(log, end, limit) == b""
        assert read_from(log, Position(0, 7), limit) == b"".join(parts)


@given(PARTS, st.integers(0, 6), st.integers(1, 5))
def test_the_tail_is_the_last_lines(parts: list[bytes], count: int, block: int) -> None:
    *lines, rest = b"".join(parts).split(b"\n")
    kept = [line + b"\n" for line in lines] + [rest] * bool(rest)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_tail, "BLOCK", block)
        log = written(Path(name), parts, first=9)
        assert read_from(log, log.tail(count), 100) == b"".join(kept[len(kept) - min(count, len(kept)) :])


def test_a_reader_follows_into_new_files_and_over_deleted_ones(tmp_path: Path) -> None:
    log = written(tmp_path, [b"one"], first=1)
    data, position = log.read(Position(0, 0), 100)
    assert (data, log.read(position, 100)) == (b"one", (b"", position))
    with (tmp_path / "log-1").open("ab") as file:
        file.write(b"two")
    (tmp_path / "log-2").write_bytes(b"three")
    data, position = log.read(position, 100)
    assert data == b"two"
    data, position = log.read(position, 3)
    assert data == b"thr"
    (tmp_path / "log-2").unlink()
    (tmp_path / "log-3").write_bytes(b"four")
    assert log.read(position, 100)[0] == b"four"


def test_a_reader_follows_into_the_archive(tmp_path: Path) -> None:
    live, archive = tmp_path / "live", tmp_path / "archive"
    live.mkdir()
    log = LogFiles(live, archive)
    (live / "log-1").write_bytes(b"one")
    position = log.read(Position(0, 0), 100)[1]
    live.rename(archive)
    (archive / "log-2").write_bytes(b"two")
    assert log.read(position, 100)[0] == b"two"


def test_files_of_an_earlier_version_are_older_than_all_others(tmp_path: Path) -> None:
    for name, content in {"log.2": b"1", "log.1": b"2", "log-1": b"3", "log-2": b"4", "log": b"5"}.items():
        (tmp_path / name).write_bytes(content)
    log = LogFiles(tmp_path, tmp_path)
    assert read_from(log, log.bounds()[0], 100) == b"12345"


def test_a_legacy_log_is_bounded_and_its_reader_keeps_its_position(tmp_path: Path) -> None:
    limits, legacy = LogLimits(max_bytes=100, files=3), tmp_path / "log"
    log, written_bytes, position, observed = LogFiles(tmp_path, tmp_path), b"", Position(0, 0), b""
    with legacy.open("ab", buffering=0) as file:
        for number in range(100):
            line = f"{number:09}\n".encode()
            written_bytes += line
            file.write(line)
            if number % 3 == 0:
                data, position = log.read(position, 100)
                observed += data
            if log.is_legacy_too_large(limits):
                log.bound_legacy_log(limits)
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * limits.max_bytes
    assert observed + read_from(log, position, 100) == written_bytes
    kept = read_from(log, Position(-9, 0), 100)
    assert written_bytes.endswith(kept)
    assert len(kept) > limits.max_bytes


def written(folder: Path, parts: list[bytes], first: int) -> LogFiles:
    for number, part in enumerate(parts, start=first):
        (folder / f"log-{number}").write_bytes(part)
    return LogFiles(folder, folder)


def read_from(log: LogFiles, position: Position, limit: int) -> bytes:
    content = b""
    while True:
        data, position = log.read(position, limit)
        if not data:
            return content
        content += data
