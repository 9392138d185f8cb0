"""The two forms of a command, and quotes in a text for a shell."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.command import form_of, in_shell, shell_text, unclosed_quote


@pytest.mark.parametrize(
    ("command", "form"),
    [
        (None, None),
        ([], None),
        (["python"], "argv"),
        (["sh", "-c", "x"], "argv"),
        (["/bin/sh", "-c"], "argv"),
        (["/bin/sh", "-c", "x", "y"], "argv"),
        (["/bin/sh", "-c", "x"], "shell"),
    ],
)
def test_a_form_follows_from_the_arguments(command: list[str] | None, form: str | None) -> None:
    assert form_of(command) == form


@given(text=st.text(min_size=1))
def test_a_text_comes_back_from_its_arguments(text: str) -> None:
    assert shell_text(in_shell(text)) == text
    assert form_of(in_shell(text)) == "shell"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("echo 'a", 0),
        ('echo "a', 0),
        ("echo ok\necho 'a\nb", 1),
        ("echo \"it's", 0),
        ("echo don't", 0),
        ("echo 'a\\'b'", 0),
        ('echo "a\\"', 0),
        ("echo 'a'", None),
        ("echo it\\'s", None),
        ("# don't\necho a", None),
        ("echo a # don't", None),
        ("echo a#'b'", None),
        ("echo \"it's\" 'a \"b'", None),
        ("cat <<E\ndon't\nE\n", None),
        ("echo $'it\\'s'", None),
        ('echo "$(echo \'it"s\')"', None),
        ("", None),
    ],
)
def test_a_quote_that_stays_open_is_found_with_its_line(text: str, line: int | None) -> None:
    assert unclosed_quote(text) == line


@given(text=st.text("ab '\"\\#\n$(){};`", max_size=12))
def test_what_is_refused_is_an_error_of_the_shell_too(text: str) -> None:
    if unclosed_quote(text) is not None:
        checked = subprocess.run(["/bin/sh", "-n", "-c", text], check=False, capture_output=True)
        assert checked.returncode != 0
