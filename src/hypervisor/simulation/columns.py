"""NumPy tables that grow and shrink in place, so that a snapshot costs one slice per column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Columns:
    """NumPy columns without gaps: the last row replaces a removed row.

    The first column is the unique key of the rows. A view has the used rows and is valid until the next
    change.
    """

    def __init__(self, **types: DTypeLike) -> None:
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(16, kind) for name, kind in types.items()}
        self._key = next(iter(types))
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: int) -> bool:
        return key in self._row_of

    def add(self, values: Iterable[object]) -> None:
        """Append a row with its values in the order of the columns."""
        row = len(self)
        if row == len(self._columns[self._key]):
            self._columns = {name: np.resize(column, 2 * row) for name, column in self._columns.items()}
        for column, value in zip(self._columns.values(), values, strict=True):
            column[row] = value
        self._row_of[int(self._columns[self._key][row])] = row

    def remove(self, key: int) -> None:
        """Remove the row with this key. The last row moves to its index."""
        row = self._row_of.pop(key)
        last = len(self._row_of)
        if row != last:
            for column in self._columns.values():
                column[row] = column[last]
            self._row_of[int(self._columns[self._key][row])] = row

    def set(self, key: int, name: str, value: object) -> None:
        """Set one value of the row with this key."""
        self._columns[name][self._row_of[key]] = value

    def view(self, name: str) -> NDArray[Any]:
        """The used rows of one column."""
        return self._columns[name][: len(self)]

    def views(self) -> Mapping[str, NDArray[Any]]:
        """The used rows of every column, by name."""
        return {name: column[: len(self)] for name, column in self._columns.items()}


def allocation_columns() -> Columns:
    """The columns of `AllocationTable`."""
    return Columns(
        id=np.int64,
        deployment_id=np.int64,
        node=np.int32,
        cpu_milli=np.int64,
        ram_mib=np.int64,
        gpu_milli_per_device=np.int32,
        gpu_mask=np.uint64,
        priority=np.int32,
        preemptible=np.bool_,
        releasing=np.bool_,
        started_at=np.float64,
        work_since=np.float64,
        protected_until=np.float64,
        organization=np.int32,
        ends_at=np.float64,
    )
