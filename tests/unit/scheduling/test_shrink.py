"""Who must leave when a node is made smaller."""

from __future__ import annotations

from hypervisor.scheduling.defragmentation.shrink import victims_to_shrink
from tests.support.scheduling import NOW, Running, World, cpu, gpu, gpu_node


def leave(
    *running: Running, cpu_milli: int = 64_000, ram_mib: int = 65_536, gpus: int = 4
) -> tuple[int, ...]:
    table = World((gpu_node(1),), running).snapshot().allocations
    return victims_to_shrink(table, cpu_milli, ram_mib, gpus, NOW)


def test_nobody_leaves_a_node_that_is_still_large_enough() -> None:
    assert leave(Running(1, 1, cpu(4), (), 100), cpu_milli=4000) == ()


def test_the_lowest_priority_leaves_first() -> None:
    assert leave(Running(1, 1, cpu(4), (), 500), Running(2, 1, cpu(4), (), 100), cpu_milli=4000) == (2,)


def test_whatever_uses_a_device_that_disappears_leaves() -> None:
    running = (Running(1, 1, gpu(1), (0,), 100), Running(2, 1, gpu(2), (2, 3), 900))
    assert leave(*running, gpus=3) == (2,)


def test_shielded_work_leaves_last_but_does_leave() -> None:
    shielded = Running(1, 1, cpu(4), (), 100, preemptible=False)
    other = Running(2, 1, cpu(4), (), 900)
    assert leave(shielded, other, cpu_milli=4000) == (2,)
    assert leave(shielded, other, cpu_milli=3000) == (1, 2)


def test_what_is_leaving_already_is_not_named_again() -> None:
    running = (Running(1, 1, cpu(4), (), 100, releasing=True), Running(2, 1, cpu(4), (), 100))
    assert leave(*running, cpu_milli=4000) == ()


def test_no_more_leave_than_must() -> None:
    """A small one of low priority may stay beside a large one that goes."""
    running = (Running(1, 1, cpu(6), (), 500), Running(2, 1, cpu(5), (), 300), Running(3, 1, cpu(2), (), 100))
    assert leave(*running, cpu_milli=8000) == (2,)
