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
