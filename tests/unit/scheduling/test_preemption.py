"""The choice of victims."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from tests.support.scheduling import NOW, Pending, Running, World, cpu, gpu, gpu_node

HIGH = Pending(100, gpu(1), priority=750)


def victims(decided: Plan) -> list[int]:
    return sorted(eviction.allocation_id for eviction in decided.evictions)


def on_devices(*priorities: int, node_id: int = 1, first_id: int = 1, **more: Any) -> tuple[Running, ...]:
    """One whole-GPU allocation per device, in device order."""
    return tuple(
        Running(first_id + index, node_id, gpu(1), (index,), priority, **more)
        for index, priority in enumerate(priorities)
    )


def test_the_lowest_priority_is_evicted_and_the_preemptor_nominated() -> None:
    decided = plan(World((gpu_node(1),), on_devices(500, 100, 500, 500), (HIGH,)).snapshot())
    assert victims(decided) == [2]
    assert [(held.deployment_id, held.gpu_indices) for held in decided.nominations] == [(100, (1,))]
    assert decided.placements == ()


@pytest.mark.parametrize("priority", [750, 1000])
def test_equal_and_higher_priorities_are_never_evicted(priority: int) -> None:
    decided = plan(World((gpu_node(1, gpus=1),), on_devices(priority), (HIGH,)).snapshot())
    assert victims(decided) == []


@pytest.mark.parametrize(
    "shield", [{"preemptible": False}, {"protected_until": NOW + 1}, {"protected_until": math.inf}]
)
def test_protected_work_is_never_evicted(shield: dict[str, Any]) -> None:
    decided = plan(World((gpu_node(1, gpus=1),), on_devices(100, **shield), (HIGH,)).snapshot())
    assert victims(decided) == []


def test_a_minimum_runtime_that_has_just_ended_no_longer_protects() -> None:
    running = on_devices(100, protected_until=NOW)
    assert victims(plan(World((gpu_node(1, gpus=1),), running, (HIGH,)).snapshot())) == [1]


def test_nothing_is_evicted_without_preemption() -> None:
    world = World((gpu_node(1, gpus=1),), on_devices(100), (HIGH,))
    assert victims(plan(world.snapshot(), Policy(preemption=False))) == []


def test_no_eviction_that_does_not_help() -> None:
    """Three of four devices cannot be freed, so evicting the fourth would not help."""
    world = World((gpu_node(1),), on_devices(100, 1000, 1000, 1000), (Pending(9, gpu(2), priority=750),))
    assert victims(plan(world.snapshot())) == []


def test_among_equal_priorities_the_least_lost_work_is_evicted() -> None:
    running = (
        Running(1, 1, gpu(1), (0,), 100, started_at=NOW - 500),
        Running(2, 1, gpu(1), (1,), 100, started_at=NOW - 20),
        Running(3, 1, gpu(1), (2,), 100, started_at=NOW - 900),
    )
    decided = plan(World((gpu_node(1, gpus=3),), running, (HIGH,)).snapshot())
    assert victims(decided) == [2]
    assert decided.evictions[0].lost_work == 20.0


def test_lost_work_never_outweighs_priority() -> None:
    running = (
        Running(1, 1, gpu(1), (0,), 100, started_at=NOW - 100_000),
        Running(2, 1, gpu(1), (1,), 200, started_at=NOW),
    )
    assert victims(plan(World((gpu_node(1, gpus=2),), running, (HIGH,)).snapshot())) == [1]


def test_the_node_whose_highest_victim_is_lowest_is_taken() -> None:
    running = (*on_devices(300, node_id=1), *on_devices(200, node_id=2, first_id=2))
    decided = plan(World((gpu_node(1, gpus=1), gpu_node(2, gpus=1)), running, (HIGH,)).snapshot())
    assert victims(decided) == [2]


def test_whole_devices_are_cleared_where_it_costs_least() -> None:
    """Device 0 carries two long-running halves, device 1 two that have just begun."""
    running = tuple(
        Running(number, 1, gpu(0.5), (number // 3,), 100, started_at=NOW - age)
        for number, age in ((1, 900), (2, 30), (3, 50), (4, 40))
    )
    assert victims(plan(World((gpu_node(1, gpus=2),), running, (HIGH,)).snapshot())) == [3, 4]


def test_the_sum_of_lost_work_decides_which_device_is_cleared() -> None:
    """Restoring the longest first would keep device 1 (500 s) and clear device 0 (3 x 400 s)."""
    running = (
        *(Running(n, 1, gpu(0.3), (0,), 100, started_at=NOW - 400) for n in (1, 2, 3)),
        Running(4, 1, gpu(0.3), (1,), 100, started_at=NOW - 500),
    )
    assert victims(plan(World((gpu_node(1, gpus=2),), running, (HIGH,)).snapshot())) == [4]


def test_a_fraction_needs_only_as_much_as_it_needs() -> None:
    running = tuple(Running(n, 1, gpu(0.3), (0,), 100, started_at=NOW - n) for n in (1, 2, 3))
    world = World((gpu_node(1, gpus=1),), running, (Pending(9, gpu(0.4), priority=750),))
    assert victims(plan(world.snapshot())) == [1]


def test_two_preemptors_do_not_count_the_same_victim_twice() -> None:
    pending = (Pending(8, gpu(1), priority=750), Pending(9, gpu(1), priority=750))
    decided = plan(World((gpu_node(1, gpus=2),), on_devices(100, 200), pending).snapshot())
    assert victims(decided) == [1, 2]
    assert [eviction.preemptor_id for eviction in decided.evictions] == [8, 9]


def test_free_capacity_elsewhere_goes_before_any_eviction() -> None:
    world = World((gpu_node(1, gpus=1), gpu_node(2, gpus=1)), on_devices(100), (HIGH,))
    decided = plan(world.snapshot())
    assert [item.node_id for item in decided.placements] == [2]
    assert victims(decided) == []


def test_the_receipt_names_reprieved_deployments_and_why() -> None:
    running = (
        Running(1, 1, gpu(1), (0,), 100, started_at=NOW - 10),
        Running(2, 1, gpu(1), (1,), 100, started_at=NOW - 99),
        Running(3, 1, gpu(1), (2,), 100, preemptible=False),
        Running(4, 1, gpu(1), (3,), 100, protected_until=NOW + 60),
    )
    decided = plan(World((gpu_node(1),), running, (HIGH,)).snapshot())
    assert victims(decided) == [1]
    assert {reprieved.deployment_id: reprieved.why for reprieved in decided.reprieved[100]} == {
        2: "fits beside the preemptor",
        3: "not preemptible",
        4: "still within its minimum runtime",
    }


def test_cpu_work_is_evicted_for_cpu_and_counts_cpu_seconds() -> None:
    running = (Running(1, 1, cpu(40), (), 100, started_at=NOW - 10), Running(2, 1, cpu(20), (), 100))
    decided = plan(World((gpu_node(1),), running, (Pending(9, cpu(30), priority=750),)).snapshot())
    assert [(eviction.allocation_id, eviction.lost_work) for eviction in decided.evictions] == [(1, 400.0)]


def test_nothing_of_the_same_priority_is_evicted() -> None:
    world = World(
        (gpu_node(1, gpus=1),),
        (Running(1, 1, gpu(1), (0,), 500),),
        (Pending(10, gpu(1), priority=500, created_at=5),),
    )
    decided = plan(world.snapshot())
    assert decided.evictions == ()
    assert [item.deployment_id for item in decided.unplaced] == [10]
