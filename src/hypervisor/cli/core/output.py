"""How answers look: tables and colours for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 240
"""Columns when the output is no terminal: wide enough that nothing is cut for the program that reads it."""

Cell = Text | str | int | float | None


def make_console(*, stderr: bool = False) -> Console:
    """Colours only on a terminal and without NO_COLOR; names from the server are never read as markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def print_json(data: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_json_line(data: object) -> None:
    """One line of a stream of JSON documents."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str | None = None) -> Table:
    """A table. A column named `>x` is right-aligned, one named `~x` is cut where the line ends."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold")
    for name in columns:
        cut = name.startswith("~")
        made.add_column(
            name.lstrip(">~"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=cut,
            overflow="ellipsis" if cut else "fold",
        )
    for row in rows:
        made.add_row(*(as_text(cell) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, Cell]]) -> Table:
    """Names and values, one pair a line; pairs without a value are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in pairs:
        if value not in (None, ""):
            grid.add_row(name, as_text(value))
    return grid


def as_text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    if cell is None or cell == "":
        return Text("-", style="dim")
    return Text(f"{cell:g}" if isinstance(cell, float) else str(cell))
