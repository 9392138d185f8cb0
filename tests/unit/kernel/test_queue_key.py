"""The order of queue keys, and that a key keeps its priority and time exactly."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.queue_key import QueueKey

PRIORITIES = st.integers(0, 1000)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))
IDS = st.integers(1, 99)


@given(PRIORITIES, PRIORITIES, TIMES, TIMES, IDS, IDS)
def test_keys_sort_by_priority_then_age_then_id(
    high: int, low: int, early: datetime, late: datetime, first: int, second: int
) -> None:
    by_columns = (-high, early, first) < (-low, late, second)
    assert (QueueKey.of(high, early, first) < QueueKey.of(low, late, second)) == by_columns


@given(PRIORITIES, TIMES, IDS)
def test_a_key_gives_back_what_it_was_made_of(priority: int, created_at: datetime, id_: int) -> None:
    key = QueueKey.of(priority, created_at, id_)
    assert (key.priority, key.created_at, key.id) == (priority, created_at, id_)
