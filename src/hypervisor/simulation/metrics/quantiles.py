"""Quantiles of durations in bounded memory.

Buckets whose bounds grow by a constant factor, after DDSketch (Masson et al., VLDB 2019): a quantile is off
by at most 1 %, whatever the distribution.
"""

from __future__ import annotations

from math import ceil, log

_ERROR = 0.01
_GROWTH = (1 + _ERROR) / (1 - _ERROR)
_LOG_GROWTH = log(_GROWTH)
_SMALLEST = 1e-3


class DurationQuantiles:
    """Seconds from 0 up. What is below a millisecond counts as 0."""

    __slots__ = ("_buckets", "_zeros", "count", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._zeros = 0
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
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
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The duration that `share` (0 to 1) of all do not exceed; None without any."""
        if not self.count:
            return None
        rank = max(1, ceil(share * self.count))
        seen = self._zeros
        if seen >= rank:
            return 0.0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(2 * _GROWTH**bucket / (_GROWTH + 1), self.longest)
        return self.longest
