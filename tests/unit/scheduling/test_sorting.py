"""Sorting by packed keys is the stable sort key by key."""

from __future__ import annotations

import numpy as np
import pytest

from hypervisor.scheduling.capacity.sorting import sorted_rows


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1_001, 5_000])
@pytest.mark.parametrize("spread", [3, 10**6, 2**62])
def test_it_is_the_stable_sort(count: int, spread: int) -> None:
    rng = np.random.default_rng(count + spread % 1_000)
    priority = -rng.integers(0, 5, count)
    created = rng.choice(np.array([-1.5, 0.0, 2.25, 1e9, np.inf]), count) + rng.integers(0, spread, count)
    ids = rng.integers(-spread, spread, count)
    expected = np.lexsort((ids, created, priority))
    assert sorted_rows(priority, created, ids).tolist() == expected.tolist()


def test_equal_rows_keep_their_order() -> None:
    assert sorted_rows(np.zeros(3_000), np.zeros(3_000)).tolist() == list(range(3_000))


def test_keys_too_wide_to_pack_are_sorted_all_the_same() -> None:
    rng = np.random.default_rng(1)
    keys = [rng.permutation(2_000_000)[:40_000].astype(np.float64) for _ in range(4)]
    assert sorted_rows(*keys).tolist() == np.lexsort(keys[::-1]).tolist()
