"""Time series in a fixed number of bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.scheduling.snapshots.snapshot import Float64


class TimeSeries:
    """Several quantities over time. When the time exceeds the last bin, neighbouring bins are merged.

    A quantity is a level or a sum. A bin has the time integral of a level, or the sum of the amounts in the
    bin.
    """

    def __init__(self, quantities: Sequence[str], width: float, bins: int = 512) -> None:
        self.width = width
        self.end = 0.0
        self._column = {name: number for number, name in enumerate(quantities)}
        self._bins: Float64 = np.zeros((bins, len(quantities)))

    def add_levels(self, start: float, end: float, levels: Float64) -> None:
        """Add the levels of the first `len(levels)` quantities from `start` to `end`."""
        # This may merge bins, so it must be first.
        last = self._extend_to(end)
        first = self.bin_of(start)
        columns = slice(0, len(levels))
        if first == last:
            self._bins[first, columns] += levels * (end - start)
            return
        self._bins[first, columns] += levels * (self.width * (first + 1) - start)
        self._bins[first + 1 : last, columns] += levels * self.width
        self._bins[last, columns] += levels * (end - self.width * last)

    def add(self, at: float, quantity: str, amount: float) -> None:
        """Add an amount of a sum at a time."""
        self._bins[self._extend_to(at), self._column[quantity]] += amount

    def bin_of(self, at: float) -> int:
        """The index of the bin of a time."""
        return int(at / self.width)

    def used_bins(self) -> int:
        """The number of bins up to the last time."""
        return min(len(self._bins), self.bin_of(self.end) + 1)

    def values(self, quantity: str) -> Float64:
        """The used bins of one quantity."""
        values: Float64 = self._bins[: self.used_bins(), self._column[quantity]]
        return values

    def bin_lengths(self) -> Float64:
        """Seconds of each used bin; the last one may be shorter."""
        starts = np.arange(self.used_bins()) * self.width
        lengths: Float64 = np.minimum(self.width, self.end - starts)
        return lengths

    def _extend_to(self, at: float) -> int:
        """Merge bins until this time has a bin. Returns the index of the bin."""
        while self.bin_of(at) >= len(self._bins):
            half = len(self._bins) // 2
            merged = self._bins[0::2] + self._bins[1::2]
            self._bins[:half] = merged
            self._bins[half:] = 0.0
            self.width *= 2
        self.end = max(self.end, at)
        return self.bin_of(at)
