"""Concurrent requests share one call of the work: results, groups, errors and cancelled callers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hypervisor.store import group_commit
from hypervisor.store.group_commit import LANES, LARGEST_GROUP, GroupCommit


class Doubling:
    """Doubles numbers while its gate is open, refuses negative ones, and fails as a whole at 13 and 0."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.commit = GroupCommit("doubling", self._work, lambda error: not isinstance(error, OSError))

    async def _work(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        await self.gate.wait()
        if 13 in numbers:
            raise ArithmeticError("unlucky")
        if 0 in numbers:
            raise ConnectionError("unreachable")
        return [2 * number if number > 0 else ValueError(str(number)) for number in numbers]

    async def submit_all(self, *numbers: int) -> list[int | BaseException]:
        return await asyncio.gather(*map(self.commit.submit, numbers), return_exceptions=True)


async def test_each_request_of_a_group_gets_its_own_result() -> None:
    doubling = Doubling()
    one, refused, three = await doubling.submit_all(1, -2, 3)
    assert (one, three) == (2, 6)
    assert isinstance(refused, ValueError)
    assert doubling.groups == [[1, -2, 3]]


async def test_requests_during_a_group_form_the_next_group() -> None:
    doubling = Doubling()
    doubling.gate.clear()
    first = asyncio.create_task(doubling.commit.submit(1))
    await _turns_of_the_loop()
    late = [asyncio.create_task(doubling.commit.submit(number)) for number in (2, 3)]
    await _turns_of_the_loop()
    doubling.gate.set()
    assert await asyncio.gather(first, *late) == [2, 4, 6]
    assert doubling.groups == [[1], [2, 3]]


async def test_a_slow_group_does_not_delay_later_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_QUEUE_SECONDS", 0.0)
    doubling = Doubling()
    doubling.gate.clear()
    first = []
    for lane in range(LANES):
        first.append(asyncio.create_task(doubling.commit.submit(1 + lane)))
        await _turns_of_the_loop()
    late = [asyncio.create_task(doubling.commit.submit(100 + number)) for number in range(LARGEST_GROUP + 1)]
    await _turns_of_the_loop()
    taken = sum(map(len, doubling.groups))
    doubling.gate.set()
    assert await asyncio.gather(*first, *late) == [
        2 * one for one in [*range(1, 1 + LANES), *range(100, 101 + LARGEST_GROUP)]
    ]
    assert taken == LANES
    assert max(map(len, doubling.groups)) == LARGEST_GROUP


async def test_a_request_is_served_in_the_turn_in_which_the_last_lane_ends() -> None:
    doubling = Doubling()
    for turns in range(12):
        first = [asyncio.create_task(doubling.commit.submit(1 + lane)) for lane in range(LANES)]
        for _ in range(turns):
            await asyncio.sleep(0)
        late = asyncio.create_task(doubling.commit.submit(7))
        assert await asyncio.wait_for(late, 10) == 14
        await asyncio.gather(*first)


async def test_a_request_that_breaks_the_work_does_not_affect_the_others() -> None:
    doubling = Doubling()
    one, unlucky, three = await doubling.submit_all(1, 13, 3)
    assert (one, three) == (2, 6)
    assert isinstance(unlucky, ArithmeticError)


async def test_a_failure_of_the_database_is_not_retried_for_each_request() -> None:
    doubling = Doubling()
    answers = await doubling.submit_all(1, 0, 3)
    assert all(isinstance(one, ConnectionError) for one in answers)
    assert doubling.groups == [[1, 0, 3]]


async def test_a_cancelled_caller_does_not_affect_the_others() -> None:
    doubling = Doubling()
    tasks = [asyncio.create_task(doubling.commit.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await tasks[1] == 4
    assert doubling.groups in ([[2]], [[1, 2]])


async def test_closing_cancels_waiting_callers() -> None:
    doubling = Doubling()
    doubling.gate.clear()
    waiting = asyncio.create_task(doubling.commit.submit(1))
    await _turns_of_the_loop()
    await doubling.commit.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _turns_of_the_loop() -> None:
    """Run all tasks that do not wait for the gate."""
    for _ in range(10):
        await asyncio.sleep(0)
