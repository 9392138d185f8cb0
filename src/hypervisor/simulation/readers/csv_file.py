"""CSV files whose rows have their line and offset, for error messages and for random access."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from hypervisor.simulation.errors import WorkloadError

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"0", "false", "no"})


class Row:
    """The fields of one line by column name, with typed access."""

    __slots__ = ("_values", "line", "offset", "path")

    def __init__(self, path: Path, line: int, offset: int, values: Mapping[str, str]) -> None:
        self.path = path
        self.line = line
        self.offset = offset
        self._values = values

    def error(self, message: str) -> WorkloadError:
        """An error for this line, to be raised by the caller."""
        return WorkloadError(f"{self.path}:{self.line}: {message}")

    def text(self, column: str, default: str | None = None) -> str:
        """The stripped field; `default` for an empty field or a missing column."""
        value = self._values.get(column, "").strip()
        if value:
            return value
        if default is None:
            raise self.error(f"{column} is empty")
        return default

    def number(self, column: str, default: float | None = None) -> float:
        """The field as a finite number from 0 up."""
        text = self.text(column, None if default is None else "")
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            raise self.error(f"{column} must be a number, not {text!r}") from None
        if not math.isfinite(value) or value < 0:
            raise self.error(f"{column} must be a finite number from 0 up, not {text}")
        return value

    def integer(self, column: str, default: int | None = None) -> int:
        """The field as a whole number from 0 up; `4.0` is valid."""
        value = self.number(column, default)
        if value != int(value):
            raise self.error(f"{column} must be a whole number, not {value:g}")
        return int(value)

    def boolean(self, column: str, default: bool) -> bool:
        """The field as true or false; 1, yes, 0 and no are valid."""
        text = self.text(column, "").lower()
        if text and text not in _TRUE | _FALSE:
            raise self.error(f"{column} must be true or false, not {text!r}")
        return text in _TRUE if text else default


class CsvFile:
    """A CSV file with a header and one row per line. The constructor reads the header only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                first = file.readline()
                self._begin = file.tell()
        except OSError as error:
            raise WorkloadError(f"{path}: {error.strerror or error}") from None
        self.columns = tuple(name.strip() for name in self._fields(first, 1, "utf-8-sig"))
        if not any(self.columns):
            raise WorkloadError(f"{path}:1: the header with the column names is missing")
        if len(set(self.columns)) != len(self.columns):
            raise WorkloadError(f"{path}:1: two columns have the same name")

    def require(self, *columns: str) -> None:
        """Raise WorkloadError, with all of these columns, if one is missing."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            noun = "column is" if len(missing) == 1 else "columns are"
            raise WorkloadError(
                f"{self.path}:1: the {noun} missing: {', '.join(missing)}; "
                f"required columns are {', '.join(columns)}"
            )

    def rows(self) -> Iterator[Row]:
        """All rows in file order, without blank lines."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            offset = self._begin
            for number, content in enumerate(file, start=2):
                if content.strip():
                    yield self._row(content, number, offset)
                offset += len(content)

    def row_at(self, file: BinaryIO, offset: int, line: int) -> Row:
        """The row at `offset` of the opened file, with its line number."""
        file.seek(offset)
        return self._row(file.readline(), line, offset)

    def _row(self, content: bytes, line: int, offset: int) -> Row:
        values = self._fields(content, line)
        if len(values) != len(self.columns):
            raise WorkloadError(
                f"{self.path}:{line}: {len(values)} fields, but the header names {len(self.columns)} columns"
            )
        return Row(self.path, line, offset, dict(zip(self.columns, values, strict=True)))

    def _fields(self, content: bytes, line: int, encoding: str = "utf-8") -> list[str]:
        try:
            text = content.decode(encoding).rstrip("\r\n")
            return next(csv.reader([text], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise WorkloadError(f"{self.path}:{line}: the line is not valid UTF-8 CSV: {error}") from None
