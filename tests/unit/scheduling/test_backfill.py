"""The reservation of the head of the queue with a time, and backfill until then."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypervisor.scheduling.passes.cycle import admit_queue
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan, Reason, ReasonCode
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64, Shape
from tests.support.scheduling import World, commit, fits, free_on, worlds

NOW = 1000.0
HEAD = 100
ONE, FOUR = Shape(1000, 1024, 1000), Shape(1000, 1024, 4000)
quiet = Policy(preemption=False)


def cluster(*ends: float) -> SnapshotBuilder:
    """A node with 4 GPUs, one-GPU work with these ends (inf: unknown), and a head that needs all 4."""
    builder = SnapshotBuilder(NOW).add_node(1, cpu_milli=64_000, ram_mib=65_536, gpu_count=4, name="node-1")
    for device, end in enumerate(ends):
        builder.add_allocation(
            1 + device,
            deployment_id=1 + device,
            node_id=1,
            cpu_milli=1000,
            ram_mib=1024,
            gpu_indices=[device],
            priority=500,
            ends_at=end,
        )
    return builder.add_pending(HEAD, FOUR, priority=500, created_at=0.0)


def placed(decided: Plan) -> list[int]:
    return [placement.deployment_id for placement in decided.placements]


def reason(decided: Plan, deployment_id: int) -> Reason:
    return next(item.reason for item in decided.unplaced if item.deployment_id == deployment_id)


def test_a_short_run_backfills_before_the_reservation() -> None:
    builder = cluster(NOW + 600, NOW + 300)
    builder.add_pending(101, ONE, priority=500, created_at=1.0, max_runtime=600)
    assert placed(plan(builder.build(), quiet)) == [101]


def test_long_and_unlimited_runs_wait() -> None:
    builder = cluster(NOW + 600, NOW + 300)
    builder.add_pending(101, ONE, priority=500, created_at=1.0, max_runtime=601)
    builder.add_pending(102, ONE, priority=500, created_at=2.0)
    decided = plan(builder.build(), quiet)
    assert placed(decided) == []
    assert reason(decided, 102).code is ReasonCode.RESERVED_FOR_ANOTHER
    assert "1970-01-01 00:26:40 UTC" in reason(decided, 102).suggestion


def test_a_short_run_behind_a_long_run_of_its_shape_still_starts() -> None:
    builder = cluster(NOW + 600)
    builder.add_pending(101, ONE, priority=500, created_at=1.0)
    builder.add_pending(102, ONE, priority=500, created_at=2.0, max_runtime=60)
    assert placed(plan(builder.build(), quiet)) == [102]


def test_capacity_beyond_the_reservation_is_free_for_all() -> None:
    builder = SnapshotBuilder(NOW).add_node(1, cpu_milli=64_000, ram_mib=65_536, gpu_count=4)
    builder.add_allocation(
        1,
        deployment_id=1,
        node_id=1,
        cpu_milli=0,
        ram_mib=0,
        gpu_indices=[0, 1],
        priority=500,
        ends_at=NOW + 60,
    )
    builder.add_pending(HEAD, Shape(0, 0, 3000), priority=500, created_at=0.0)
    builder.add_pending(101, ONE, priority=500, created_at=1.0)
    builder.add_pending(102, ONE, priority=500, created_at=2.0)
    assert placed(plan(builder.build(), quiet)) == [101]


def test_the_reason_of_the_head_has_its_reservation() -> None:
    head_reason = reason(plan(cluster(NOW + 600, NOW + 300).build(), quiet), HEAD)
    assert head_reason.code is ReasonCode.INSUFFICIENT_GPU
    assert (
        "node-1 is reserved for it and free at 1970-01-01 00:26:40 UTC at the latest" in head_reason.sentence
    )


def test_without_a_known_end_the_nearest_node_is_reserved_without_a_time() -> None:
    builder = cluster(math.inf, NOW + 300)
    builder.add_pending(101, ONE, priority=500, created_at=1.0, max_runtime=10)
    decided = plan(builder.build(), quiet)
    assert placed(decided) == []
    assert "reserved for it" not in reason(decided, HEAD).sentence


def test_the_node_that_is_free_first_is_reserved() -> None:
    builder = cluster(NOW + 600)
    builder.add_node(2, cpu_milli=64_000, ram_mib=65_536, gpu_count=4, name="node-2")
    builder.add_allocation(
        50,
        deployment_id=50,
        node_id=2,
        cpu_milli=0,
        ram_mib=0,
        gpu_indices=[0],
        priority=500,
        ends_at=NOW + 60,
    )
    assert "node-2 is reserved" in reason(plan(builder.build(), quiet), HEAD).sentence


@given(worlds(), st.data(), st.booleans())
@settings(
    max_examples=int(os.environ.get("HV_HYPOTHESIS_EXAMPLES", "200")),
    deadline=None,
    derandomize="HV_HYPOTHESIS_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_no_backfill_delays_the_head(world: World, data: st.DataObject, preemption: bool) -> None:
    """At the reserved time the head fits beside all work that has not ended and cannot be evicted."""
    limits = st.sampled_from([math.inf, 60.0, 600.0, 3600.0])
    ends = {run.id: NOW + data.draw(limits) for run in world.running}
    longest = {item.id: data.draw(limits) for item in world.pending}
    plain = world.snapshot()
    snapshot = replace(
        plain,
        allocations=replace(plain.allocations, ends_at=_column(ends, plain.allocations.id)),
        pending=replace(plain.pending, max_runtime=_column(longest, plain.pending.deployment_id)),
    )
    policy = Policy(preemption=preemption)
    state = PassState(snapshot, policy)
    admit_queue(state)
    reservation = state.head_reservation
    if reservation is None or math.isinf(reservation.latest_start):
        return
    decided = plan(snapshot, policy)
    after = commit(world, decided)
    node = next(node for node in world.nodes if node.id == int(snapshot.nodes.id[reservation.node]))
    ended = set()
    for run in after.running:
        end = ends.get(run.id, NOW + longest.get(run.id, math.inf))
        evictable = (
            preemption
            and run.priority < reservation.priority
            and run.preemptible
            and run.protected_until <= NOW
        )
        if run.releasing or end <= reservation.latest_start or evictable:
            ended.add(run.id)
    free_capacity = free_on(after, node, ended)
    assert fits(replace(reservation.request.shape, gpu_models=(), node_selector=()), free_capacity)


def _column(values: dict[int, float], ids: Int64) -> Float64:
    return ids.astype(float) * 0 + [values[int(one)] for one in ids] if len(ids) else ids.astype(float)
