"""Forecasts: the outcome is that of plan() after the submit, the start follows from the expected ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.scheduling.forecasting import rollout
from hypervisor.scheduling.forecasting.forecast import (
    ForecastOutcome,
    WhatIfRequest,
    WhatIfResult,
    unused_id,
    what_if,
    with_request,
)
from hypervisor.scheduling.forecasting.start_estimate import ForecastInputs, StartRange, estimate_start
from hypervisor.scheduling.forecasting.suggestions import SuggestionKind, find_suggestions
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots import columns
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Shape, Snapshot
from hypervisor.scheduling.snapshots.wording import span
from tests.support.scheduling import NOW, Pending, World, worlds

CORE = Shape(1000, 1024)


def request_for(item: Pending, snapshot: Snapshot) -> WhatIfRequest:
    return WhatIfRequest(
        item.id,
        item.shape,
        item.priority,
        item.created_at,
        preemptible=item.preemptible,
        protected=item.protected,
    )


def one_core_node(
    *, ends_at: float = math.inf, priority: int = 500, started_at: float = 0.0
) -> SnapshotBuilder:
    builder = SnapshotBuilder(NOW).add_node(1, cpu_milli=1000, ram_mib=4096)
    return builder.add_allocation(
        1,
        deployment_id=1,
        node_id=1,
        cpu_milli=1000,
        ram_mib=1024,
        priority=priority,
        started_at=started_at,
        ends_at=ends_at,
    )


def start_of(snapshot: Snapshot, deployment_id: int, inputs: ForecastInputs) -> StartRange:
    result = what_if(snapshot, Policy(), deployment_id)
    return estimate_start(snapshot, Policy(), deployment_id, result, inputs)


@given(worlds(), st.data())
@settings(max_examples=60, deadline=None)
def test_an_outcome_is_what_the_plan_does_after_the_submit(world: World, data: st.DataObject) -> None:
    if not world.pending:
        return
    item = data.draw(st.sampled_from(world.pending))
    without = replace(world, pending=tuple(one for one in world.pending if one.id != item.id)).snapshot()
    result = what_if(with_request(without, request_for(item, without)), Policy(), item.id)

    decided = plan(world.snapshot())

    placed = [one for one in decided.placements if one.deployment_id == item.id]
    victims = {one.deployment_id for one in decided.evictions if one.preemptor_id == item.id}
    assert (result.outcome is ForecastOutcome.FITS_NOW) == bool(placed)
    assert (result.outcome is ForecastOutcome.PREEMPTS) == bool(victims)
    assert {victim.deployment_id for victim in result.victims} == victims
    if placed:
        assert [(assignment.node_id, assignment.gpu_indices) for assignment in result.assignments] == [
            (one.node_id, one.gpu_indices) for one in placed
        ]


@given(worlds(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_start_lies_ahead_and_in_order(world: World, data: st.DataObject) -> None:
    if not world.pending:
        return
    snapshot = world.snapshot()
    item = data.draw(st.sampled_from(world.pending))
    runs = tuple(sorted(data.draw(st.lists(st.floats(1, 5000), max_size=5))))
    found = start_of(snapshot, item.id, ForecastInputs(runs=runs))
    assert found.how
    if found.earliest is not None:
        assert found.earliest >= NOW
    if found.latest is not None:
        assert found.earliest is not None
        assert found.earliest <= found.latest


@given(worlds(), st.data())
@settings(max_examples=40, deadline=None)
def test_every_suggestion_makes_it_start(world: World, data: st.DataObject) -> None:
    if not world.pending:
        return
    item = data.draw(st.sampled_from(world.pending))
    snapshot = replace(world, pending=tuple(p for p in world.pending if p.id != item.id)).snapshot()
    request = request_for(item, snapshot)
    if (
        what_if(with_request(snapshot, request), Policy(), request.deployment_id).outcome
        is not ForecastOutcome.WAITS
    ):
        return
    for suggestion in find_suggestions(snapshot, Policy(), request):
        assert suggestion.then.outcome in (ForecastOutcome.FITS_NOW, ForecastOutcome.PREEMPTS)
        assert suggestion.changes
        assert all(value > 0 for value in suggestion.changes.values())


def test_a_limit_bounds_the_latest_start() -> None:
    snapshot = one_core_node(ends_at=NOW + 90).add_pending(7, CORE, priority=500).build()
    found = start_of(snapshot, 7, ForecastInputs())
    assert (found.earliest, found.latest) == (NOW, NOW + 90)
    assert found.after == (1,)
    assert "max_runtime_seconds" in found.how


def test_longer_past_runs_predict_the_remaining_time() -> None:
    snapshot = one_core_node(started_at=NOW - 100).add_pending(7, CORE, priority=500).build()
    found = start_of(snapshot, 7, ForecastInputs(runs=(10.0, 20.0, 150.0, 200.0, 300.0)))
    assert (found.earliest, found.latest) == (NOW + 100, NOW + 200)
    assert "5 finished runs" in found.how


def test_those_ahead_in_the_queue_run_first() -> None:
    builder = one_core_node(ends_at=NOW + 50).add_pending(7, CORE, priority=500, max_runtime=100)
    snapshot = builder.add_pending(8, CORE, priority=500, created_at=1.0).build()
    found = start_of(snapshot, 8, ForecastInputs())
    assert found.latest == NOW + 150
    assert found.after == (7,)


def test_a_service_without_a_limit_makes_the_start_unknown() -> None:
    snapshot = one_core_node().add_pending(7, CORE, priority=500).build()
    found = start_of(snapshot, 7, ForecastInputs(runs=(10.0, 20.0), services=frozenset({1})))
    assert (found.earliest, found.latest) == (None, None)
    assert "until they are stopped" in found.how


def test_victims_stop_within_their_grace_period() -> None:
    snapshot = one_core_node(priority=100).add_pending(7, CORE, priority=500).build()
    found = start_of(snapshot, 7, ForecastInputs(stops_within={1: 30.0}))
    assert (found.earliest, found.latest) == (NOW, NOW + 30)


def test_what_no_node_could_take_never_starts() -> None:
    snapshot = one_core_node().add_pending(7, Shape(8000, 1024), priority=500).build()
    result: WhatIfResult = what_if(snapshot, Policy(), 7)
    assert result.outcome is ForecastOutcome.NEVER
    assert start_of(snapshot, 7, ForecastInputs()).earliest is None


def test_the_smallest_change_is_named() -> None:
    builder = SnapshotBuilder(NOW).add_node(1, cpu_milli=4000, ram_mib=4096)
    builder.add_allocation(1, deployment_id=1, node_id=1, cpu_milli=1000, ram_mib=512, priority=600)
    snapshot = builder.build()
    request = WhatIfRequest(unused_id(snapshot), Shape(4000, 1024), 500, NOW)
    lower, higher = find_suggestions(snapshot, Policy(), request)
    assert (lower.kind, dict(lower.changes)) == (SuggestionKind.LOWER_REQUEST, {"required_cpu_cores": 3.0})
    assert lower.sentence == "request 3 CPU cores instead of 4 CPU cores"
    assert (higher.kind, dict(higher.changes)) == (SuggestionKind.RAISE_PRIORITY, {"priority": 601})


def test_requeued_victims_precede_deployments_of_equal_priority() -> None:
    builder = one_core_node(started_at=NOW - 10, ends_at=NOW + 50).add_pending(
        7, CORE, priority=700, max_runtime=100
    )
    snapshot = builder.add_pending(8, CORE, priority=500).build()
    found = start_of(snapshot, 8, ForecastInputs())
    assert found.latest == NOW + 100 + 60
    assert found.after == (1,)


def test_what_lies_too_far_ahead_is_not_guessed() -> None:
    builder = one_core_node(ends_at=NOW + 1)
    for number in range(300):
        builder.add_pending(100 + number, CORE, priority=500, created_at=-1.0, max_runtime=10)
    found = start_of(builder.add_pending(7, CORE, priority=500).build(), 7, ForecastInputs(runs=(10.0,)))
    assert (found.earliest, found.latest) == (None, None)
    assert "too many ends" in found.how


def test_many_starts_at_a_time_copy_the_tables_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 100,000 starts would copy ever longer tables 100,000 times: half a minute."""
    builder = SnapshotBuilder(NOW).add_node(1, cpu_milli=20_000, ram_mib=2**20)
    for number in range(1, 31):
        builder.add_pending(number, CORE, priority=500, created_at=float(number), max_runtime=60.0)
    grown: list[int] = []

    def counting(first: AllocationTable, second: AllocationTable) -> AllocationTable:
        grown.append(len(second))
        return columns.joined(first, second)

    monkeypatch.setattr(rollout, "joined", counting)
    assert start_of(builder.build(), 30, ForecastInputs()).latest == NOW + 60
    # Two: the 20 that fit start in one step of both simulations.
    assert grown == [20, 20]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (200, "3 min 20 s"),
        (120, "2 min"),
        (7_800, "2 h 10 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
