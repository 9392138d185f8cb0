"""The usable idle GPU of a node after a placement, for many results of its CPU and RAM at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.scoring.fgd_tables import IMPOSSIBLE, SCALE, STRIDE, FgdTables
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64


class _Columns(NamedTuple):
    """The constants of each pair: where its rows of the two tables begin, and the amount that is placed."""

    start: Int64
    several: Int64
    whole: Int64
    each: Int64
    constant: Int64
    possible: Bool

    def chosen(self, pairs: Int64) -> _Columns:
        start, several, whole, each, constant = (column.take(pairs) for column in self[:-1])
        return _Columns(start, several, whole, each, constant, self.possible.take(pairs))


class FgdPairs:
    """Pairs (set of typical requests that stay possible, amount of GPU placed).

    They are numbered set x amounts + amount. The pairs of the set after the last one mean "does not fit".
    """

    def __init__(self, tables: FgdTables, amounts: Sequence[int]) -> None:
        self._tables = tables
        self._several = tables.several.reshape(-1)
        sets, number = np.divmod(np.arange((tables.count + 1) * len(amounts)), len(amounts))
        amount = np.array(amounts, np.int64)[number]
        possible = sets < tables.count
        sets = np.where(possible, sets, 0)
        whole = np.where(amount % WHOLE_GPU == 0, amount // WHOLE_GPU, 0)
        taken = whole * tables.device.take(sets * STRIDE + WHOLE_GPU)
        self._all = _Columns(
            start=sets * STRIDE,
            several=sets * tables.several.shape[1],
            whole=whole,
            each=amount % WHOLE_GPU,
            constant=amount * SCALE - taken,
            possible=possible,
        )

    def __len__(self) -> int:
        return len(self._all.start)

    def usable_after(self, free: Sequence[int], pairs: Int64 | None = None) -> Int64:
        """The usable idle GPU plus the amount placed, for these pairs or all, by idle milli-GPU per
        device."""
        columns = self._all if pairs is None else self._all.chosen(pairs)
        values = sorted(set(free))
        start = columns.start[:, None]
        now = self._tables.device.take(start + np.array(values))
        full = free.count(WHOLE_GPU)
        usable: Int64 = now @ np.array([free.count(value) for value in values])
        usable += self._several.take(columns.several + np.maximum(full - columns.whole, 0))
        usable += self._best_change(columns, values, now, full)
        usable += columns.constant
        usable[~columns.possible | (columns.whole > full)] = IMPOSSIBLE
        return usable

    def _best_change(self, columns: _Columns, values: list[int], now: Int64, full: int) -> Int64:
        """The change if a fraction goes to the best device; 0 without a fraction."""
        left = np.array(values) - columns.each[:, None]
        change = self._tables.device.take(columns.start[:, None] + np.maximum(left, 0)) - now
        if full:
            change[:, -1] += self._several.take(columns.several + (full - 1))
            change[:, -1] -= self._several.take(columns.several + full)
        change[left < 0] = IMPOSSIBLE
        best: Int64 = change.max(axis=1)
        best[columns.each == 0] = 0
        return best
