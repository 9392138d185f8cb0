"""The queue iterator: which rows are skipped, which never are, and the cost of a deep queue."""

from __future__ import annotations

import numpy as np
import pytest

from hypervisor.scheduling.queueing.ordering import queue_order
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.queueing.queue_iterator import QueueIterator
from tests.support.scheduling import Pending, World, cpu

NOBODY = np.zeros(0, np.int64)


def queue_of(*cores: int) -> Queue:
    """One deployment per number, in this order; deployments with equal cores are of one class."""
    pending = tuple(Pending(number, cpu(each), 500, float(number)) for number, each in enumerate(cores))
    snapshot = World((), (), pending).snapshot()
    return Queue(snapshot, queue_order(snapshot))


def test_every_row_is_visited_in_order() -> None:
    queue = queue_of(*[1 + number % 7 for number in range(20_000)])
    turns = list(QueueIterator(queue).walk(NOBODY))
    assert [rank for rank, _ in turns] == list(range(20_000))
    assert [row for _, row in turns] == queue.order.tolist()


@pytest.mark.parametrize("length", [10, 63, 64, 65, 200, 20_000])
def test_rows_of_an_inadmissible_class_are_skipped(length: int) -> None:
    queue = queue_of(*[1 + number % 2 for number in range(length)])
    turns, taken = QueueIterator(queue), []
    for rank, row in turns.walk(NOBODY):
        taken.append(rank)
        if rank == 4:
            turns.mark_inadmissible(row)
    assert taken == [0, 1, 2, 3, 4, *range(5, length, 2)]


def test_a_nominated_row_of_an_inadmissible_class_is_visited() -> None:
    queue = queue_of(*[1] * 500)
    turns, taken = QueueIterator(queue), []
    for _, row in turns.walk(np.array([3, 400])):
        taken.append(row)
        turns.mark_inadmissible(row)
    assert taken == [0, 3, 400]


def test_freed_capacity_restores_all_later_rows() -> None:
    queue = queue_of(*[1] * 300)
    turns, taken = QueueIterator(queue), []
    for rank, row in turns.walk(np.array([150])):
        taken.append(rank)
        turns.mark_inadmissible(row)
        if rank == 150:
            turns.on_capacity_freed()
    assert taken == [0, *range(150, 152)]
