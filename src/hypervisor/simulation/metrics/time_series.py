"""Courses over time in a fixed number of bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.scheduling.snapshots.snapshot import Float64


class TimeSeries:
    """Several quantities over time. When time runs beyond the last bin, neighbours are merged.

    A quantity is either a level, of which each bin holds the integral over time, or a sum of amounts that
    fell into the bin.
    """

    def __init__(self, quantities: Sequence[str], width: float, bins: int = 512) -> None:
        self.width = width
        self.end = 0.0
        self._column = {name: number for number, name in enumerate(quantities)}
        self._bins: Float64 = np.zeros((bins, len(quantities)))

    def add_levels(self, start: float, end: float, levels: Float64) -> None:
        """The first `len(levels)` quantities had these levels from `start` to `end`."""
        # Reaching may merge bins, so it comes first.
        last = self._reach(end)
        first = self.bin_of(start)
        columns = slice(0, len(levels))
        if first == last:
            self._bins[first, columns] += levels * (end - start)
            return
        self._bins[first, columns] += levels * (self.width * (first + 1) - start)
        self._bins[first + 1 : last, columns] += levels * self.width
        self._bins[last, columns] += levels * (end - self.width * last)

    def add(self, at: float, quantity: str, amount: float) -> None:
        """Something happened at one moment."""
        self._bins[self._reach(at), self._column[quantity]] += amount

    def bin_of(self, at: float) -> int:
        """The number of the bin that a time falls into."""
        return int(at / self.width)

    def used_bins(self) -> int:
        """How many bins there is anything in."""
        return min(len(self._bins), self.bin_of(self.end) + 1)

    def values(self, quantity: str) -> Float64:
        """The used bins of one quantity."""
        found: Float64 = self._bins[: self.used_bins(), self._column[quantity]]
        return found

    def bin_lengths(self) -> Float64:
        """Seconds in each used bin; the last one may not be full."""
        starts = np.arange(self.used_bins()) * self.width
        lengths: Float64 = np.minimum(self.width, self.end - starts)
        return lengths

    def _reach(self, at: float) -> int:
        """Make room up to this time; the number of its bin."""
        while self.bin_of(at) >= len(self._bins):
            half = len(self._bins) // 2
            merged = self._bins[0::2] + self._bins[1::2]
            self._bins[:half] = merged
            self._bins[half:] = 0.0
            self.width *= 2
        self.end = max(self.end, at)
        return self.bin_of(at)
