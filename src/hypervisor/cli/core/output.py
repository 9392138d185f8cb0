"""Output: tables and colours for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hypervisor.cli.core.safe_console import SafeConsole
from hypervisor.cli.core.terminal_text import without_controls

UNLIMITED = 1_000_000
"""Width of the output when it is not a terminal: nothing is cut or wrapped."""

Cell = Text | str | int | float | None


def make_console(*, stderr: bool = False) -> Console:
    """A console with colours only on a terminal without NO_COLOR. Texts from the server are never markup, and
    have no effect on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else UNLIMITED
    return SafeConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def print_json(data: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json_text(data, indent=2) + "\n")


def print_json_line(data: object) -> None:
    """Print one JSON document as one line, for a stream of documents."""
    sys.stdout.write(json_text(data) + "\n")
    sys.stdout.flush()


def json_text(data: object, *, indent: int | None = None, encoding: str | None = None) -> str:
    """A JSON document, with `\\u` escapes when `encoding` lacks one of its characters.

    The default is the encoding of stdout.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    try:
        text.encode(encoding or sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(data, indent=indent)
    return text


def check_writable(*paths: Path | None) -> None:
    """Raise OSError when one of the files cannot be written. Call this before long work."""
    for path in paths:
        if path is not None:
            is_new = not path.exists()
            with path.open("ab"):
                pass
            if is_new:
                path.unlink()


def facts(pairs: Iterable[tuple[str, Cell]]) -> Table:
    """Names and values, one pair per line, without empty values."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in pairs:
        if value not in (None, ""):
            grid.add_row(name, as_text(value))
    return grid


def as_text(cell: Cell) -> Text:
    """A cell as text; `-` for an empty one."""
    if isinstance(cell, Text):
        return cell
    if cell is None or cell == "":
        return Text("-", style="dim")
    # Made visible before the layout, because `^[` is wider than the character.
    return Text(f"{cell:g}" if isinstance(cell, float) else without_controls(str(cell)))
