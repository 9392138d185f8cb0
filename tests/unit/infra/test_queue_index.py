"""The order of places, as tuples and as members of a sorted set, and the correction of counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.infra.coordination.queue_index import Place, correct_positions
from hypervisor.infra.coordination.redis_queue_keys import as_member, as_place

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))
PLACES = st.builds(Place.of, st.integers(0, 1000), TIMES, st.integers(1, 2**63 - 1))
# Few values, so that priorities and times tie often and differ by a microsecond.
CLOSE = st.builds(
    Place.of,
    st.integers(499, 501),
    st.integers(0, 2).map(lambda us: datetime(2026, 11, 20, tzinfo=UTC) + timedelta(microseconds=us)),
    st.integers(8, 12),
)


@given(st.one_of(PLACES, CLOSE), st.one_of(PLACES, CLOSE))
def test_members_sort_by_their_bytes_as_the_queue_does(one: Place, other: Place) -> None:
    assert (as_member(one).encode() < as_member(other).encode()) == (one < other)
    assert as_place(as_member(one)) == one


@given(st.integers(0, 1000), st.integers(0, 1000), TIMES, TIMES, st.integers(1, 99), st.integers(1, 99))
def test_places_sort_by_priority_then_age_then_id(
    high: int, low: int, early: datetime, late: datetime, first: int, second: int
) -> None:
    by_rows = (-high, early, first) < (-low, late, second)
    assert (Place.of(high, early, first) < Place.of(low, late, second)) == by_rows


@given(st.dictionaries(st.integers(1, 30), CLOSE, max_size=20), st.data())
def test_what_the_asker_has_just_read_corrects_the_index(
    others: dict[int, Place], data: st.DataObject
) -> None:
    """Some of those asked for are not in the index yet, some stand there at another place."""
    rows = {id_: place._replace(id=id_) for id_, place in others.items()}
    asked = [rows[id_] for id_ in rows if data.draw(st.booleans())]
    indexed = dict(rows)
    for place in asked:
        match data.draw(st.sampled_from(["same", "absent", "elsewhere"])):
            case "absent":
                del indexed[place.id]
            case "elsewhere":
                indexed[place.id] = data.draw(CLOSE)._replace(id=place.id)
    order = sorted(indexed.values())
    counted = [(sum(one < place for one in order), indexed.get(place.id)) for place in asked]
    assert correct_positions(asked, counted) == [sorted(rows.values()).index(place) + 1 for place in asked]
