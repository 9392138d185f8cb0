"""The two forms of a command: a list is the program with its arguments, a text runs in a shell.

A text is stored as the arguments with which the shell runs it, as in a Dockerfile. So every runtime starts it
without a special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

SHELL = ("/bin/sh", "-c")

CommandForm = Literal["shell", "argv"]


def in_shell(text: str) -> list[str]:
    """The arguments that run the text in a shell, as written."""
    return [*SHELL, text]


def shell_text(command: Sequence[str]) -> str | None:
    """The text that a shell runs; None for a program with its arguments."""
    return command[-1] if tuple(command[:-1]) == SHELL else None


def form_of(command: Sequence[str] | None) -> CommandForm | None:
    """The form of a command; None without one."""
    if not command:
        return None
    return "argv" if shell_text(command) is None else "shell"


def unclosed_quote(text: str) -> int | None:
    """The line, from 0, of a quote in a shell text that is never closed; None without one.

    Also None where only a parser of the whole shell language knows: for here-documents, for a substitution
    within quotes, and for $'...', which some shells lack.
    """
    if any(mark in text for mark in ("<<", "$'", "`")):
        return None
    opened, start, position = "", 0, 0
    while position < len(text):
        char = text[position]
        if opened == '"' and text.startswith(("$(", "${"), position):
            return None
        if char == "\\" and opened != "'":
            position += 1
        elif char == opened:
            opened = ""
        elif not opened and char in "'\"":
            opened, start = char, position
        elif not opened and char == "#" and _begins_word(text, position):
            position = _end_of_line(text, position)
        position += 1
    return text.count("\n", 0, start) if opened else None


def _begins_word(text: str, position: int) -> bool:
    return position == 0 or text[position - 1] in " \t\n;&|()"


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end
