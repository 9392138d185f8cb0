"""Random numbers that depend only on the seed, on every machine and version of NumPy."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import TypeVar

import numpy as np

_BLOCK = 4096
_T = TypeVar("_T")


class SeededRandom:
    """Uniform numbers from the raw stream of PCG64, which NumPy never changes."""

    def __init__(self, seed: Sequence[int]) -> None:
        self._source = np.random.PCG64(list(seed))
        self._left: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._left:
            raw = np.asarray(self._source.random_raw(_BLOCK), np.uint64)
            self._left = ((raw >> np.uint64(11)) * 2.0**-53).tolist()
        return self._left.pop()

    def below(self, count: int) -> int:
        """An integer from 0 to count - 1."""
        return int(self.uniform() * count)

    def sample(self, items: MutableSequence[_T], count: int) -> list[_T]:
        """`count` different items. Changes the order of `items`."""
        for index in range(count):
            other = index + self.below(len(items) - index)
            items[index], items[other] = items[other], items[index]
        return list(items[:count])
