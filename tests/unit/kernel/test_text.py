"""Invalid text, and the comparison of names."""

from __future__ import annotations

import pytest

from hypervisor.kernel.text import fold, has_control_characters, unsafe_reason


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "half \udfff pair"])
def test_unsafe_text_has_a_reason(text: str) -> None:
    assert unsafe_reason(text)


@pytest.mark.parametrize("text", ["", "plain", "line\nbreak", "🐴", "é"])
def test_other_text_is_valid(text: str) -> None:
    assert unsafe_reason(text) is None


def test_control_characters_are_detected() -> None:
    assert has_control_characters("escape \x1b[31m")
    assert has_control_characters("two\nlines")
    assert not has_control_characters("é 🐴 ok")
    assert not has_control_characters("family 👩\u200d👧, עברית, العربية")


@pytest.mark.parametrize("char", ["\x7f", "\x85", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"])
def test_characters_that_break_or_turn_a_line_are_control_characters(char: str) -> None:
    assert has_control_characters(f"/data/{char}gnp.exe")


@pytest.mark.parametrize(
    ("one", "other"), [("Ada", "aDA"), ("Straße", "STRASSE"), ("é", "e\u0301"), ("ＡＢＣ", "abc"), ("ſ", "S")]
)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert fold(fold(one)) == fold(one)
