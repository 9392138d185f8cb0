"""The victims when a node is made smaller."""

from __future__ import annotations

from hypervisor.scheduling.defragmentation.shrink import victims_to_shrink
from tests.support.scheduling import NOW, Running, World, cpu, gpu, gpu_node


def leave(
    *running: Running, cpu_milli: int = 64_000, ram_mib: int = 65_536, gpus: int = 4
) -> tuple[int, ...]:
    table = World((gpu_node(1),), running).snapshot().allocations
    return victims_to_shrink(table, cpu_milli, ram_mib, gpus, NOW)


def test_nothing_is_evicted_from_a_node_that_is_still_large_enough() -> None:
    assert leave(Running(1, 1, cpu(4), (), 100), cpu_milli=4000) == ()


def test_the_lowest_priority_is_the_first_victim() -> None:
    assert leave(Running(1, 1, cpu(4), (), 500), Running(2, 1, cpu(4), (), 100), cpu_milli=4000) == (2,)


def test_allocations_on_removed_devices_are_victims() -> None:
    running = (Running(1, 1, gpu(1), (0,), 100), Running(2, 1, gpu(2), (2, 3), 900))
    assert leave(*running, gpus=3) == (2,)


def test_protected_work_is_the_last_victim() -> None:
    protected = Running(1, 1, cpu(4), (), 100, preemptible=False)
    other = Running(2, 1, cpu(4), (), 900)
    assert leave(protected, other, cpu_milli=4000) == (2,)
    assert leave(protected, other, cpu_milli=3000) == (1, 2)


def test_releasing_allocations_are_not_returned() -> None:
    running = (Running(1, 1, cpu(4), (), 100, releasing=True), Running(2, 1, cpu(4), (), 100))
    assert leave(*running, cpu_milli=4000) == ()


def test_the_victims_are_a_minimal_set() -> None:
    """A small allocation of low priority may stay if a large one is evicted."""
    running = (Running(1, 1, cpu(6), (), 500), Running(2, 1, cpu(5), (), 300), Running(3, 1, cpu(2), (), 100))
    assert leave(*running, cpu_milli=8000) == (2,)
