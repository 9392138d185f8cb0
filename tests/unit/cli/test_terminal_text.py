"""The output of a workload cannot control the operator's terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from hypervisor.cli.core.failures import CommandFailed, describe
from hypervisor.cli.core.output import facts, make_console
from hypervisor.cli.core.safe_console import SafeConsole
from hypervisor.cli.core.tables import table
from hypervisor.cli.core.terminal_text import RESET, TerminalFilter

HOSTILE = {
    "\x1b]0;title\x07": "^[]0;title^G",
    "\x1b]52;c;Y3VybA==\x1b\\": "^[]52;c;Y3VybA==^[\\",
    "\x1b[2J\x1b[1;1H": "^[[2J^[[1;1H",
    "\x1b[5A": "^[[5A",
    "\x1bP$q\x1b\\": "^[P$q^[\\",
    "\x9d0;title\x9c": "^[]0;title^[\\",
    "page\fbreak\v": "page^Lbreak^K",
    "\x7f\x00": "^?^@",
    "\x1b": "^[",
    "\x1b[31": "^[[31",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_control_sequences_are_shown_and_not_executed(text: str, shown: str) -> None:
    assert filtered([text]) == shown


@pytest.mark.parametrize("text", ["ep 1\rep 2\n", "a\tb\b", "é 語 🙂", "wide\u2028"])
def test_text_and_progress_bars_pass(text: str) -> None:
    assert filtered([text]) == text


def test_colours_pass_and_are_reset_at_the_end() -> None:
    text = "\x1b[1;31mred\x1b[0m \x1b[38:2:1:2:3mrgb\x1b[K"
    assert filtered([text]) == text + RESET


@given(st.text(st.sampled_from("\x1b[]0;m\x07aKé\r\n")), st.data())
def test_the_result_does_not_depend_on_the_pieces(text: str, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert filtered(pieces) == filtered([text])


def filtered(pieces: list[str]) -> str:
    terminal = TerminalFilter()
    return "".join([terminal.feed(piece) for piece in pieces] + [terminal.end()])


def test_texts_of_other_users_in_tables_and_errors_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "no such program: \x1b]0;title\x07\x9d0;x\x1b[31m"
    console = make_console()
    console.print(table(["reason"], [[hostile]], title=hostile))
    console.print(Text(hostile).append("!"), facts([("reason", hostile)]))
    shown = capsys.readouterr().out + describe(CommandFailed(hostile))[1]
    assert shown.count("no such program: ^[]0;title") == 5
    assert not any(character in shown for character in "\x07\x1b\x9d")


def test_the_console_keeps_its_own_colours() -> None:
    console = SafeConsole(force_terminal=True, color_system="standard", file=StringIO())
    console.print(Text("red", style="red"), "tab\there")
    assert isinstance(console.file, StringIO)
    assert "\x1b[31mred\x1b[0m" in console.file.getvalue()
