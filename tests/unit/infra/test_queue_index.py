"""The order of keys, as tuples and as members of a sorted set, and the correction of counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.infra.coordination.queue_index import correct_positions
from hypervisor.infra.coordination.redis_queue_keys import as_key, as_member
from hypervisor.kernel.queue_key import QueueKey

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))
KEYS = st.builds(QueueKey.of, st.integers(0, 1000), TIMES, st.integers(1, 2**63 - 1))
# Few values, so that priorities and times tie often and differ by a microsecond.
CLOSE = st.builds(
    QueueKey.of,
    st.integers(499, 501),
    st.integers(0, 2).map(lambda us: datetime(2026, 11, 20, tzinfo=UTC) + timedelta(microseconds=us)),
    st.integers(8, 12),
)


@given(st.one_of(KEYS, CLOSE), st.one_of(KEYS, CLOSE))
def test_members_sort_by_their_bytes_as_the_queue_does(one: QueueKey, other: QueueKey) -> None:
    assert (as_member(one).encode() < as_member(other).encode()) == (one < other)
    assert as_key(as_member(one)) == one


@given(st.dictionaries(st.integers(1, 30), CLOSE, max_size=20), st.data())
def test_the_rows_of_the_caller_correct_the_index(others: dict[int, QueueKey], data: st.DataObject) -> None:
    """Some requested deployments are not in the index, some have another key there."""
    rows = {id_: key._replace(id=id_) for id_, key in others.items()}
    requested = [rows[id_] for id_ in rows if data.draw(st.booleans())]
    indexed = dict(rows)
    for key in requested:
        match data.draw(st.sampled_from(["same", "absent", "elsewhere"])):
            case "absent":
                del indexed[key.id]
            case "elsewhere":
                indexed[key.id] = data.draw(CLOSE)._replace(id=key.id)
    order = sorted(indexed.values())
    counted = [(sum(one < key for one in order), indexed.get(key.id)) for key in requested]
    assert correct_positions(requested, counted) == [
        sorted(rows.values()).index(key) + 1 for key in requested
    ]
