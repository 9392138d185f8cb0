"""Tables that fit the terminal.

The columns of a table have an order of importance. Identity and state are always shown whole. On a narrow
terminal, less important columns are left out, free text is cut at the end of the line, and a column that has
no room in the line stands below it. Without a terminal nothing is left out or cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table as Lines
from rich.text import Text

from hypervisor.cli.core.output import Cell, as_text

GAP = 2
"""Cells between two columns."""
TEXT_WIDTH = 24
"""Least cells of a text in the line; with fewer, the text stands below the line."""
INDENT = 2


class Fit(StrEnum):
    """What happens to a column that is too wide. The value is its mark in front of the column's name."""

    WHOLE = ""
    CUT = "~"
    WRAPPED = "="
    BELOW = "_"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, its alignment, and what happens when it is too wide."""

    name: str
    fit: Fit = Fit.WHOLE
    right: bool = False

    @classmethod
    def parse(cls, text: str) -> Column:
        """`>id` is right-aligned, `~reason` is cut, `=message` is wrapped, `_gpus` goes below the line."""
        right = text.startswith(">")
        text = text.removeprefix(">")
        marks = [fit for fit in Fit if fit and text.startswith(fit)]
        return cls(text[1:] if marks else text, marks[0] if marks else Fit.WHOLE, right)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns in the line with their widths, and the columns below it."""

    widths: dict[int, int]
    below: tuple[int, ...]


class Table:
    """A renderable. `drops` has the columns that a narrow terminal leaves out, the least important first."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        title: str | None = None,
        drops: Sequence[str] = (),
    ) -> None:
        self.columns = [Column.parse(text) for text in columns]
        self.rows = [[self._cell(cell, at) for at, cell in enumerate(row)] for row in rows]
        self._title = title
        names = [column.name for column in self.columns]
        self._drops = [names.index(name) for name in drops]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        layout = self._layout(options.max_width)
        if self._title is not None:
            yield Text(self._title, style="italic", overflow="fold")
        if not layout.below:
            yield self._lines(layout, self.rows, header=True)
            return
        yield self._lines(layout, [], header=True)
        for row in self.rows:
            yield self._lines(layout, [row], header=False)
            yield from self._below(layout, row)

    def _cell(self, cell: Cell, at: int) -> Text:
        text = as_text(cell)
        if self.columns[at].fit is Fit.CUT:
            text = Text(" ").join(text.split()) if "\n" in text.plain else text
        return text

    def _layout(self, width: int) -> _Layout:
        """The first arrangement that fits. Columns go in the order of `drops`, then below the line."""
        movable = [at for at, column in enumerate(self.columns) if column.fit is not Fit.WHOLE]
        for kept in range(len(movable), -1, -1):
            below = tuple(movable[kept:])
            for count in range(len(self._drops) + 1):
                gone = {*below, *self._drops[:count]}
                shown = [at for at in range(len(self.columns)) if at not in gone]
                widths = {at: self._least(at) for at in shown}
                spare = width - sum(widths.values()) - GAP * (len(shown) - 1)
                if spare >= 0:
                    return _Layout(self._widened(widths, spare), below)
        return _Layout(self._narrowed(widths, width), tuple(movable))

    def _least(self, at: int) -> int:
        """The least width of a column in the line. A header wraps at its words."""
        column = self.columns[at]
        header = max((cell_len(word) for word in column.name.split()), default=0)
        content = self._content(at)
        if column.fit in (Fit.CUT, Fit.WRAPPED):
            content = min(content, TEXT_WIDTH)
        return max(header, content, 1)

    def _content(self, at: int) -> int:
        return max((cell_len(line) for row in self.rows for line in row[at].plain.split("\n")), default=0)

    def _widened(self, widths: dict[int, int], spare: int) -> dict[int, int]:
        """The widths with the spare cells: for texts first, then for headers."""
        for at in sorted(widths, key=lambda at: self.columns[at].fit is Fit.WHOLE):
            more = min(spare, max(self._content(at), cell_len(self.columns[at].name)) - widths[at])
            if more > 0:
                widths[at] += more
                spare -= more
        return widths

    def _narrowed(self, widths: dict[int, int], width: int) -> dict[int, int]:
        """Widths for a terminal that is narrower than the identity: the widest column is folded."""
        while sum(widths.values()) + GAP * (len(widths) - 1) > width:
            widest = max(widths, key=lambda at: widths[at])
            if widths[widest] == 1:
                break
            widths[widest] -= 1
        return widths

    def _lines(self, layout: _Layout, rows: Sequence[Sequence[Text]], *, header: bool) -> Lines:
        lines = Lines(
            box=SIMPLE_HEAD if header else None,
            show_header=header,
            show_edge=False,
            header_style="bold",
            padding=(0, GAP - 1, 0, 0) if header else (0, GAP, 0, 0),
            pad_edge=False,
        )
        for at, width in layout.widths.items():
            column = self.columns[at]
            is_cut = column.fit is Fit.CUT
            lines.add_column(
                column.name,
                justify="right" if column.right else "left",
                width=width,
                no_wrap=is_cut,
                overflow="ellipsis" if is_cut else "fold",
            )
        for row in rows:
            lines.add_row(*(row[at] for at in layout.widths))
        return lines

    def _below(self, layout: _Layout, row: Sequence[Text]) -> Iterator[Padding]:
        for at in layout.below:
            if row[at].plain not in ("", "-"):
                column = self.columns[at]
                label = Text(f"{column.name} " if column.fit is Fit.BELOW else "", overflow="fold")
                yield Padding(label.append_text(row[at]), (0, 0, 0, INDENT), expand=False)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str | None = None,
    drops: Sequence[str] = (),
) -> Table:
    """A table that fits the terminal; see `Column.parse` for the marks of a column."""
    return Table(columns, rows, title=title, drops=drops)
