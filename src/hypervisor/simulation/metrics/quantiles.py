"""Quantiles of durations in bounded memory.

The bounds of the buckets grow by a constant factor, after DDSketch (Masson et al., VLDB 2019). The relative
error of a quantile is at most 1 %, for every distribution.
"""

from __future__ import annotations

from math import ceil, log

_ERROR = 0.01
_GROWTH = (1 + _ERROR) / (1 - _ERROR)
_LOG_GROWTH = log(_GROWTH)
_SMALLEST = 1e-3


class DurationQuantiles:
    """A sketch of durations in seconds. Durations below a millisecond count as 0."""

    __slots__ = ("_buckets", "_zeros", "count", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._zeros = 0
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Add a duration."""
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        if seconds < _SMALLEST:
            self._zeros += 1
            return
        bucket = ceil(log(seconds) / _LOG_GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    @property
    def mean(self) -> float | None:
        """The exact mean; None without durations."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The quantile for `share` (0 to 1); None without durations."""
        if not self.count:
            return None
        rank = max(1, ceil(share * self.count))
        count = self._zeros
        if count >= rank:
            return 0.0
        for bucket in sorted(self._buckets):
            count += self._buckets[bucket]
            if count >= rank:
                return min(2 * _GROWTH**bucket / (_GROWTH + 1), self.longest)
        return self.longest
