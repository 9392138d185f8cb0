"""Work done at once for all who ask at the same time: who gets which answer, and who spoils whose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hypervisor.store import group_commit
from hypervisor.store.group_commit import LANES, LARGEST_GROUP, GroupCommit


class Doubling:
    """Doubles numbers while its gate is open, refuses negative ones, and breaks down over 13."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.gathering = GroupCommit("doubling", self._work, lambda error: not isinstance(error, OSError))

    async def _work(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        await self.gate.wait()
        if 13 in numbers:
            raise ArithmeticError("unlucky")
        if 0 in numbers:
            raise ConnectionError("nobody there")
        return [2 * number if number > 0 else ValueError(str(number)) for number in numbers]

    async def ask_all(self, *numbers: int) -> list[int | BaseException]:
        return await asyncio.gather(*map(self.gathering.ask, numbers), return_exceptions=True)


async def test_each_gets_its_own_answer_from_one_piece_of_work() -> None:
    doubling = Doubling()
    one, refused, three = await doubling.ask_all(1, -2, 3)
    assert (one, three) == (2, 6)
    assert isinstance(refused, ValueError)
    assert doubling.groups == [[1, -2, 3]]


async def test_who_comes_meanwhile_is_the_next_group() -> None:
    doubling = Doubling()
    doubling.gate.clear()
    first = asyncio.create_task(doubling.gathering.ask(1))
    await _turns_of_the_loop()
    late = [asyncio.create_task(doubling.gathering.ask(number)) for number in (2, 3)]
    await _turns_of_the_loop()
    doubling.gate.set()
    assert await asyncio.gather(first, *late) == [2, 4, 6]
    assert doubling.groups == [[1], [2, 3]]


async def test_work_that_takes_long_does_not_stop_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.0)
    doubling = Doubling()
    doubling.gate.clear()
    first = []
    for lane in range(LANES):
        first.append(asyncio.create_task(doubling.gathering.ask(1 + lane)))
        await _turns_of_the_loop()
    late = [asyncio.create_task(doubling.gathering.ask(100 + number)) for number in range(LARGEST_GROUP + 1)]
    await _turns_of_the_loop()
    taken = sum(map(len, doubling.groups))
    doubling.gate.set()
    assert await asyncio.gather(*first, *late) == [
        2 * one for one in [*range(1, 1 + LANES), *range(100, 101 + LARGEST_GROUP)]
    ]
    assert taken == LANES
    assert max(map(len, doubling.groups)) == LARGEST_GROUP


async def test_who_comes_in_the_turn_in_which_the_last_lane_ends_is_served() -> None:
    doubling = Doubling()
    for turns in range(12):
        first = [asyncio.create_task(doubling.gathering.ask(1 + lane)) for lane in range(LANES)]
        for _ in range(turns):
            await asyncio.sleep(0)
        late = asyncio.create_task(doubling.gathering.ask(7))
        assert await asyncio.wait_for(late, 10) == 14
        await asyncio.gather(*first)


async def test_one_that_breaks_the_work_spoils_no_others() -> None:
    doubling = Doubling()
    one, unlucky, three = await doubling.ask_all(1, 13, 3)
    assert (one, three) == (2, 6)
    assert isinstance(unlucky, ArithmeticError)


async def test_what_is_nobodys_fault_is_not_tried_for_each() -> None:
    doubling = Doubling()
    answers = await doubling.ask_all(1, 0, 3)
    assert all(isinstance(one, ConnectionError) for one in answers)
    assert doubling.groups == [[1, 0, 3]]


async def test_who_gives_up_stops_nobody_and_is_left_out_where_nothing_has_begun() -> None:
    doubling = Doubling()
    asked = [asyncio.create_task(doubling.gathering.ask(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert await asked[1] == 4
    assert doubling.groups in ([[2]], [[1, 2]])


async def test_closing_cancels_waiting_callers() -> None:
    doubling = Doubling()
    doubling.gate.clear()
    waiting = asyncio.create_task(doubling.gathering.ask(1))
    await _turns_of_the_loop()
    await doubling.gathering.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _turns_of_the_loop() -> None:
    """Whatever can go on without the gate has done so."""
    for _ in range(10):
        await asyncio.sleep(0)
