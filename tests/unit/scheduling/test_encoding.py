"""Stored snapshots: read back exactly, hashed canonically, replayed bit for bit."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.decision_codec.encoding import UnreadableSnapshot, decode, encode, plan_digest
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.replay import replay
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Quota, Shape
from tests.support.scheduling import World, commit, worlds

POLICIES = st.sampled_from(
    [Policy(), Policy("bestfit", preemption=False), Policy(target_workload=((Shape(1000, 1024, 500), 0.3),))]
)


def assert_same(first: Any, second: Any) -> None:
    """Check that both are equal bit for bit, including the types of columns."""
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        assert first.tobytes() == second.tobytes()
    elif is_dataclass(first):
        assert type(first) is type(second)
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


@given(worlds(), POLICIES, st.floats(allow_nan=False))
@settings(max_examples=60, deadline=None)
def test_a_snapshot_is_read_back_exactly(world: World, policy: Policy, now: float) -> None:
    later = commit(world, plan(world.snapshot(), policy))
    for snapshot in (replace(world.snapshot(), now=now), later.snapshot()):
        stored = encode(snapshot, policy)
        again, chosen = decode(stored.blob)
        assert_same(snapshot, again)
        assert chosen == policy
        assert encode(again, chosen) == stored


@given(worlds(), POLICIES)
@settings(max_examples=40, deadline=None)
def test_a_replay_gives_the_same_decision(world: World, policy: Policy) -> None:
    snapshot = world.snapshot()
    stored, plan_hash = encode(snapshot, policy), plan_digest(plan(snapshot, policy))
    again = replay(stored.blob, stored.digest, plan_hash)
    assert (again.intact, again.equal) == (True, True)


def test_quotas_pairs_and_odd_labels_survive() -> None:
    builder = SnapshotBuilder(0.1 + 0.2).add_node(
        3, cpu_milli=1, ram_mib=1, labels={"$": "%", "#": "ü\ud7ff"}
    )
    builder.add_quota(Quota(7, Resources(1000, 2, 3), Resources(5, 6, 7), weight=1 / 3))
    builder.add_pending(9, Shape(1, 1, 1000, ("A", "B"), (("zone", "a"),)), organization_id=7)
    snapshot = builder.freeze_pair(1, 2).nominate(9, 3, (0, 1)).build()
    again, _ = decode(encode(snapshot, Policy()).blob)
    assert_same(snapshot, again)


def test_another_decision_has_another_hash() -> None:
    builder = SnapshotBuilder(0).add_node(1, cpu_milli=4000, ram_mib=4096)
    builder.add_pending(1, Shape(1000, 1024)).add_pending(2, Shape(9000, 1024))
    snapshot = builder.build()
    decided, stored = plan(snapshot), encode(snapshot, Policy())
    without = replace(decided, placements=())
    assert plan_digest(decided) != plan_digest(without)
    assert plan_digest(decided) != plan_digest(replace(decided, unplaced=()))
    assert not replay(stored.blob, stored.digest, plan_digest(without)).equal
    assert not replay(stored.blob, "0" * 64, plan_digest(decided)).intact


@pytest.mark.parametrize("blob", [b"", b"no snapshot", b"HVS1\nnot compressed", b"HVS9\n"])
def test_bytes_that_are_not_a_snapshot_are_refused(blob: bytes) -> None:
    with pytest.raises(UnreadableSnapshot):
        decode(blob)
