"""Files as text: encodings, special files, and their size."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hypervisor.cli.core.failures import WrongUsage
from hypervisor.cli.spec_file import source
from hypervisor.cli.spec_file.reader import read_file
from hypervisor.cli.spec_file.refusal import Refused
from hypervisor.cli.spec_file.source import MAX_BYTES, read_text


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (
            "name: a\nlabels: {x: caf\u00e9}\n".encode("latin-1"),
            2,
            "not UTF-8 (byte 0xe9): save the file as UTF-8",
        ),
        ("name: a\n".encode("utf-16"), None, "UTF-16, not UTF-8: save the file as UTF-8"),
        ("name: a\n".encode("utf-16-be"), None, None),
        (b"name: a\n\xf0\x9f\x98", 2, "not UTF-8 (byte 0xf0): save the file as UTF-8"),
        (b"name: a\n\xed\xa0\x80", 2, "not UTF-8 (byte 0xed): save the file as UTF-8"),
        (
            "name: a\nenv: {A: x\u2028y}\n".encode(),
            2,
            "the character \\u2028 is a line break in some versions",
        ),
        ("name: a\nenv: {A: x\x85y}\n".encode(), 2, "the character \\u0085 is a line break in some versions"),
    ],
)
def test_what_is_not_utf_8_is_refused_with_its_line(
    tmp_path: Path, data: bytes, line: int | None, reason: str | None
) -> None:
    path = tmp_path / "work.yaml"
    path.write_bytes(data)
    if reason is None:  # UTF-16 without a mark is full of NUL characters
        with pytest.raises(WrongUsage, match=r":1: the character U\+0"):
            read_file(str(path))
        return
    with pytest.raises(Refused) as refused:
        read_text(str(path))
    assert refused.value.line == line
    assert refused.value.reason.startswith(reason)


def test_a_mark_at_the_start_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "work.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: \xf0\x9f\x98\x80\n")
    assert read_text(str(path)) == "name: \U0001f600\n"


def test_the_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "work.yaml"
    path.write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(str(path))) == MAX_BYTES
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    for endless in (str(path), "/dev/zero"):
        with pytest.raises(Refused, match="larger than 1 MiB"):
            read_text(endless)


@pytest.mark.parametrize(
    ("path", "words"),
    [("", "Is a directory"), ("missing.yaml", "No such file"), ("x" * 300, "File name too long")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, path: str, words: str) -> None:
    named = str(tmp_path / path)
    with pytest.raises(WrongUsage, match=words) as refused:
        read_file(named)
    assert str(refused.value).startswith(f"{named}: ")


def test_a_named_pipe_is_read_and_one_without_a_writer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("name: a\n"))
    writer.start()
    assert read_text(str(pipe)) == "name: a\n"
    writer.join()
    monkeypatch.setattr(source, "WRITER_SECONDS", 0.05)
    with pytest.raises(Refused, match="nothing writes to this pipe"):
        read_text(str(pipe))


def test_a_writer_may_take_longer_than_a_named_pipe_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "WRITER_SECONDS", 0.05)
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"name: a\n")
        os.close(writing)

    timer = threading.Timer(0.2, write)
    timer.start()
    assert read_text(f"/dev/fd/{reading}") == "name: a\n"
    timer.join()
    os.close(reading)
