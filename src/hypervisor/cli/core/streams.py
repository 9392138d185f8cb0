"""The standard streams and the arguments of the process, prepared for every terminal and locale.

Standard library only: every command imports this module at its start.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

_ERRORS = "hypervisor.cells"
_LOOKALIKES = {"…": "~", "→": ">", "█": "#", "░": "."}
"""Characters of this command line with an ASCII character of the same width."""
_BYTES = range(0xDC80, 0xDD00)
"""Surrogates that stand for bytes that are not valid UTF-8 (PEP 383)."""


def prepare_streams() -> None:
    """Open closed standard streams on /dev/null, and make no character of the output an error."""
    _open_closed_descriptors()
    _ignore_invalid_sizes()
    codecs.register_error(_ERRORS, replace_unencodable)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def finish_streams() -> None:
    """Flush the streams. What cannot be written is dropped, so that the interpreter does not fail at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            discard(stream)


def discard(stream: io.TextIOBase | object) -> None:
    """Send the remaining output of the stream to /dev/null."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def decode_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments, with UTF-8 decoded that the locale's encoding could not decode.

    Bytes that are not valid UTF-8 stay surrogates, so that they still name a file.
    """
    return [_decoded(text) for text in arguments]


def replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """The error handler of the output: a replacement with the width of the characters, so tables stay
    aligned. A byte that is not valid UTF-8 is shown as `\\xff`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_replacement(character) for character in characters), error.end


def printable(text: str) -> str:
    """The text with `\\xff` for each byte that is not valid UTF-8."""
    return "".join(_escaped(character) if _is_surrogate(character) else character for character in text)


def _replacement(character: str) -> str:
    if _is_surrogate(character):
        return _escaped(character)
    width: int = import_module("rich.cells").cell_len(character)
    return _LOOKALIKES.get(character, "?" * width)


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if code in _BYTES else f"\\u{code:04x}"


def _decoded(text: str) -> str:
    if not any(map(_is_surrogate, text)):
        return text
    try:
        return os.fsencode(text).decode("utf-8", "strict")
    except UnicodeError:
        return text


def _open_closed_descriptors() -> None:
    """Open /dev/null in place of closed standard streams. Else a file or a connection gets their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != descriptor:
                    os.dup2(opened, descriptor)
                    os.close(opened)


def _ignore_invalid_sizes() -> None:
    """Unset sizes of the terminal that are no positive numbers, such as COLUMNS=0."""
    for name in ("COLUMNS", "LINES"):
        value = os.environ.get(name)
        if value is not None and not (value.isascii() and value.isdecimal() and int(value) > 0):
            del os.environ[name]
