"""Output: tables and colours for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence, Set

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hypervisor.cli.core.safe_console import SafeConsole

PIPED_WIDTH = 240
"""Characters of a line when the output is not a terminal: wide enough that no cell is cut."""

UNLIMITED = 1_000_000
"""Characters of a line that no table reaches."""

WIDE = 100
"""Characters of a terminal from which all columns of a table are shown."""

Cell = Text | str | int | float | None


class _CuttingTable(Table):
    """A table whose no-wrap columns have only the width that the other columns leave.

    Without this, rich narrows the other columns first, down to nothing.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cut = [column for column in self.columns if column.no_wrap]
        for column in cut:
            column.max_width = Measurement.get(console, options, column.header).maximum
        narrowest = Measurement.get(console, options.update_width(UNLIMITED), self).maximum
        spare = max(0, options.max_width - narrowest)
        for column in cut:
            column.max_width = (column.max_width or 0) + spare // len(cut)
        yield from super().__rich_console__(console, options)


def make_console(*, stderr: bool = False) -> Console:
    """A console with colours only on a terminal without NO_COLOR. Texts from the server are never markup, and
    have no effect on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return SafeConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def print_json(data: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_json_line(data: object) -> None:
    """Print one JSON document as one line, for a stream of documents."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str | None = None) -> Table:
    """A table. A column name `>x` means right-aligned; `~x` means cut where the terminal ends."""
    result = _CuttingTable(
        box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold"
    )
    for name in columns:
        cut = name.startswith("~")
        result.add_column(
            name.lstrip(">~"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=cut,
            overflow="ellipsis" if cut else "fold",
        )
    for row in rows:
        result.add_row(*(as_text(cell) for cell in row))
    return result


def table_for_width(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], width: int, only_when_wide: Set[str]
) -> Table:
    """A table without the columns in `only_when_wide` on a narrow terminal (`width` in characters)."""
    shown = [index for index, name in enumerate(columns) if width >= WIDE or name not in only_when_wide]
    return table([columns[index] for index in shown], [[row[index] for index in shown] for row in rows])


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
    return Text(f"{cell:g}" if isinstance(cell, float) else str(cell))
