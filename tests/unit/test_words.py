"""The check of words finds the listed words and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.check_words import ROOT, WORDS_FILE, find, is_checked, main, read_words, text_files

WORDS = {"anew": "again", "of ours": "our", "told": "reported"}


def found_in(text: str) -> list[str]:
    return [hit.word for hit in find(text, WORDS)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it is planned anew.", ["anew"]),
        ("Told so, it begins Anew", ["told", "anew"]),
        ("a project of ours", ["of ours"]),
        ("a project of\nours", ["of ours"]),
        ("    # a project of\n    # ours", ["of ours"]),
        ("> a project of\n> our own", []),
        ("was_told = is_told_so", ["told", "told"]),
        ("untold, tolding, hours of hours, renew", []),
        ("", []),
    ],
)
def test_a_word_is_found_as_a_whole(text: str, words: list[str]) -> None:
    assert found_in(text) == words


def test_a_hit_names_its_line_and_what_to_write_instead() -> None:
    (hit,) = find("one\ntwo\na thing of\nours\n", WORDS)
    assert hit == (3, "of ours", "our")


def test_the_list_offers_no_refused_word_instead() -> None:
    words = read_words(WORDS_FILE)
    assert words
    assert [hit for instead in words.values() for hit in find(instead, words)] == []


def test_every_listed_word_is_found() -> None:
    words = read_words(WORDS_FILE)
    assert [hit.word for word in words for hit in find(f"it is {word} here", words)] == list(words)


def test_code_documents_and_tests_are_checked_and_nothing_else() -> None:
    checked = {path.relative_to(ROOT).as_posix() for path in text_files()}
    assert {"README.md", "Makefile", ".ci/run", "docs/testing.md", "scripts/check_words.py"} <= checked
    assert {"tests/conftest.py", "src/hypervisor/__init__.py"} <= checked
    assert not {"scripts/words.toml", "tests/unit/test_words.py", "uv.lock", ".env"} & checked
    assert not [name for name in checked if "swagger" in name or "__pycache__" in name]
    assert not is_checked(Path("/etc/hostname"))


def test_a_hit_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.check_words.ROOT", tmp_path)
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("It starts again.\n")
    bad.write_text("# Title\n\nIt starts anew.\n")

    assert main([str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out == "bad.md:3: anew -> use again\n"
    assert main([]) == 1
