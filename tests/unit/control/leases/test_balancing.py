"""Servers with the same view acquire and release leases consistently."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.control.leases.balancing import rebalance

NAMES = [f"cluster:{number}" for number in range(1, 13)]


def run_turns(
    names: list[str], holders: dict[str, str], servers: dict[str, set[str]]
) -> tuple[dict[str, str], int]:
    """Run turns of all servers until nothing changes; the holders, and the number of acquired leases."""
    move_count = 0
    for _ in range(20):
        changes = {server: rebalance(server, names, holders, servers) for server in servers}
        if not any(change.acquire or change.release for change in changes.values()):
            return holders, move_count
        acquired = [name for change in changes.values() for name in change.acquire]
        assert len(acquired) == len(set(acquired)), "two servers with the same view acquire the same lease"
        for server, change in changes.items():
            for name in change.release:
                assert holders.pop(name) == server
        for server, change in changes.items():
            for name in change.acquire:
                assert name not in holders
                holders[name] = server
                move_count += 1
    raise AssertionError("the distribution does not converge")


def loads(holders: dict[str, str], servers: dict[str, set[str]]) -> list[int]:
    return sorted(list(holders.values()).count(server) for server in servers)


def test_free_leases_are_distributed_equally() -> None:
    servers: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, move_count = run_turns(NAMES, {}, servers)
    assert (loads(holders, servers), move_count) == ([4, 4, 4], 12)


def test_a_server_that_joins_gets_its_share_and_no_other_lease_moves() -> None:
    servers: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, _ = run_turns(NAMES, {}, servers)
    holders, move_count = run_turns(NAMES, holders, {**servers, "d": set()})
    assert (loads(holders, {**servers, "d": set()}), move_count) == ([3, 3, 3, 3], 3)


def test_the_leases_of_a_dead_server_are_acquired_and_no_other_lease_moves() -> None:
    servers: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    holders, _ = run_turns(NAMES, {}, servers)
    remaining = {name: holder for name, holder in holders.items() if holder != "a"}
    after, move_count = run_turns(NAMES, dict(remaining), {"b": set(), "c": set()})
    assert move_count == 4
    assert {name: after[name] for name in remaining} == remaining


def test_an_engine_goes_to_the_only_server_that_reaches_it() -> None:
    servers = {"a": {"engine:process"}, "b": set()}
    holders, _ = run_turns(["engine:process"], {}, servers)
    assert holders == {"engine:process": "b"}


def test_an_engine_that_no_server_reaches_stays_free() -> None:
    assert run_turns(["engine:process"], {}, {"a": {"engine:process"}}) == ({}, 0)


@given(
    names=st.lists(st.sampled_from(NAMES), unique=True),
    servers=st.dictionaries(
        st.sampled_from("abcde"), st.sets(st.sampled_from(NAMES), max_size=6), min_size=1
    ),
    data=st.data(),
)
def test_every_reachable_lease_is_held_in_the_end(
    names: list[str], servers: dict[str, set[str]], data: st.DataObject
) -> None:
    holder = st.sampled_from(sorted(servers))
    start = data.draw(st.dictionaries(st.sampled_from(names), holder)) if names else {}
    # No server holds a lease that it excludes: it would have released it.
    start = {name: holder for name, holder in start.items() if name not in servers[holder]}
    holders, _ = run_turns(names, start, servers)
    reachable = {name for name in names if any(name not in excluded for excluded in servers.values())}
    assert set(holders) == reachable
    assert all(name not in servers[holder] for name, holder in holders.items())
    if not any(servers.values()):
        assert max(loads(holders, servers)) - min(loads(holders, servers)) < 2
