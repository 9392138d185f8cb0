"""`eventually`: it must end, and its failure must name the last result."""

from __future__ import annotations

import pytest

from tests.support.wait import eventually, eventually_sync


async def test_it_returns_the_first_true_value_of_a_sync_or_async_condition() -> None:
    values = iter([0, None, 7])

    async def condition() -> int | None:
        return next(values)

    assert await eventually(condition, every=0) == 7
    assert await eventually(lambda: "here") == "here"


async def test_it_retries_assertions_and_fails_with_the_last_one() -> None:
    def condition() -> bool:
        raise AssertionError("two of three are running")

    with pytest.raises(AssertionError, match=r"all running .* within 0\.01 s; .*two of three are running"):
        await eventually(condition, within=0.01, every=0.001, what="all running")


def test_the_sync_variant_names_the_condition_and_the_last_value() -> None:
    def queue_is_empty() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"queue_is_empty did not come true within 0 s; poll 1: False"):
        eventually_sync(queue_is_empty, within=0)


def test_other_exceptions_pass_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually_sync(lambda: 1 / 0)
