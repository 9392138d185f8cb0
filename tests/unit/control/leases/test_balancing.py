"""Members with the same view take and give up what fits together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.control.leases.balancing import rebalance

NAMES = [f"cluster:{number}" for number in range(1, 13)]


def settle(
    names: list[str], holders: dict[str, str], members: dict[str, set[str]]
) -> tuple[dict[str, str], int]:
    """Let all members move until none does; who holds what then, and how many leases changed hands."""
    moved = 0
    for _ in range(20):
        moves = {me: rebalance(me, names, holders, members) for me in members}
        if not any(each.acquire or each.release for each in moves.values()):
            return holders, moved
        taken = [name for each in moves.values() for name in each.acquire]
        assert len(taken) == len(set(taken)), "two members with the same view reach for the same"
        for me, each in moves.items():
            for name in each.release:
                assert holders.pop(name) == me
        for me, each in moves.items():
            for name in each.acquire:
                assert name not in holders
                holders[name] = me
                moved += 1
    raise AssertionError("the members never come to rest")


def loads(holders: dict[str, str], members: dict[str, set[str]]) -> list[int]:
    return sorted(list(holders.values()).count(member) for member in members)


def test_free_leases_are_shared_out_equally() -> None:
    members: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, moved = settle(NAMES, {}, members)
    assert (loads(holders, members), moved) == ([4, 4, 4], 12)


def test_who_joins_gets_a_share_and_only_that_moves() -> None:
    members: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, _ = settle(NAMES, {}, members)
    holders, moved = settle(NAMES, holders, {**members, "d": set()})
    assert (loads(holders, {**members, "d": set()}), moved) == ([3, 3, 3, 3], 3)


def test_what_a_dead_member_held_is_taken_over_and_nothing_else_moves() -> None:
    members: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, _ = settle(NAMES, {}, members)
    left = {name: holder for name, holder in holders.items() if holder != "a"}
    after, moved = settle(NAMES, dict(left), {"b": set(), "c": set()})
    assert moved == 4
    assert {name: after[name] for name in left} == left


def test_an_engine_goes_to_the_only_member_that_reaches_it() -> None:
    members = {"a": {"engine:process"}, "b": set()}
    holders, _ = settle(["engine:process"], {}, members)
    assert holders == {"engine:process": "b"}


def test_what_nobody_reaches_stays_free() -> None:
    assert settle(["engine:process"], {}, {"a": {"engine:process"}}) == ({}, 0)


@given(
    names=st.lists(st.sampled_from(NAMES), unique=True),
    members=st.dictionaries(
        st.sampled_from("abcde"), st.sets(st.sampled_from(NAMES), max_size=6), min_size=1
    ),
    data=st.data(),
)
def test_from_any_start_all_come_to_rest_with_everything_held_that_can_be(
    names: list[str], members: dict[str, set[str]], data: st.DataObject
) -> None:
    held = st.sampled_from(sorted(members))
    start = data.draw(st.dictionaries(st.sampled_from(names), held)) if names else {}
    # Nobody holds what it refuses: it would have given it back.
    start = {name: holder for name, holder in start.items() if name not in members[holder]}
    holders, _ = settle(names, start, members)
    reachable = {name for name in names if any(name not in refused for refused in members.values())}
    assert set(holders) == reachable
    assert all(name not in members[holder] for name, holder in holders.items())
    if not any(members.values()):
        assert max(loads(holders, members)) - min(loads(holders, members)) < 2
