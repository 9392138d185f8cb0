"""The limits of Linux on the arguments and the environment of a program, execve(2).

A program with more is never started (E2BIG), on any runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_STRING_BYTES = 32 * 4096 - 1
"""The longest argument and the longest NAME=VALUE, in bytes of UTF-8: MAX_ARG_STRLEN without the NUL byte."""

MAX_TOTAL_BYTES = 1024 * 1024
"""All arguments and variables of a deployment together, in bytes, each with a NUL byte.

The other half of `USUAL_TOTAL_BYTES` is left for variables of the image and the runtime.
"""

USUAL_TOTAL_BYTES = 2 * MAX_TOTAL_BYTES
"""What Linux allows with the usual stack limit of 8 MiB: a quarter of it."""

_WAY_OUT = "put large data in a file, or pass it on standard input"
_MAX_BYTES_OF_A_CHARACTER = 4


class TooLargeForExec(ValueError):
    """A command or an environment with which no program can be started. The message names the part."""


def check_command(command: Sequence[str]) -> None:
    """Raises TooLargeForExec for an argument that is too long."""
    for number, text in enumerate(command):
        _check_string(f"argument {number}" if number else "the program's name", text)


def check_variables(env: Mapping[str, str]) -> None:
    """Raises TooLargeForExec for a variable that is too long."""
    for name, value in env.items():
        _check_string(f"the variable {name}, with its name,", f"{name}={value}")


def check_start(command: Sequence[str], env: Mapping[str, str], most: int) -> None:
    """All checks, for a program that is about to be started with these strings. Raises TooLargeForExec."""
    check_command(command)
    check_variables(env)
    check_total(command, env, most)


def check_shell_text(text: str) -> None:
    """Raises TooLargeForExec for a text that is too long for a shell: it is one argument."""
    _check_string("the text", text)


def check_total(command: Sequence[str], env: Mapping[str, str], most: int = MAX_TOTAL_BYTES) -> None:
    """Raises TooLargeForExec for more than `most` bytes together."""
    strings = [*command, *(f"{name}={value}" for name, value in env.items())]
    total = sum(_bytes(text) + 1 for text in strings)
    if total > most:
        raise TooLargeForExec(
            f"command and env have {total:,} bytes together, and a program can be started with {most:,} at "
            f"most: {_WAY_OUT}"
        )


def _check_string(what: str, text: str) -> None:
    if len(text) * _MAX_BYTES_OF_A_CHARACTER > MAX_STRING_BYTES and _bytes(text) > MAX_STRING_BYTES:
        raise TooLargeForExec(
            f"{what} has {_bytes(text):,} bytes, and a program can be started with {MAX_STRING_BYTES:,} at "
            f"most: {_WAY_OUT}"
        )


def _bytes(text: str) -> int:
    """The length in UTF-8. A lone surrogate, which no request has, counts as a program would receive it."""
    return len(text.encode(errors="surrogatepass"))
