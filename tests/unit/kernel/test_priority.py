"""Priorities: a name or a number becomes an integer from 0 to 1000."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.priority import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    NAMED_PRIORITIES,
    InvalidPriority,
    parse_priority,
    priority_label,
)

PRIORITIES = st.integers(MIN_PRIORITY, MAX_PRIORITY)


@given(PRIORITIES)
def test_every_label_parses_back_to_its_priority(value: int) -> None:
    assert parse_priority(priority_label(value)) == value
    assert parse_priority(value) == value


@pytest.mark.parametrize(("name", "value"), NAMED_PRIORITIES.items())
def test_names_are_parsed_in_any_case(name: str, value: int) -> None:
    assert {parse_priority(text) for text in (name, name.lower(), f" {name.title()} ")} == {value}


def test_the_names_rise_in_the_order_people_expect() -> None:
    assert sorted(NAMED_PRIORITIES, key=NAMED_PRIORITIES.__getitem__) == ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    assert priority_label(DEFAULT_PRIORITY) == "MEDIUM"


@given(PRIORITIES, st.integers(0, 5000))
def test_leading_zeros_change_nothing(value: int, zeros: int) -> None:
    assert parse_priority("0" * zeros + str(value)) == value


@given(st.integers().filter(lambda value: not MIN_PRIORITY <= value <= MAX_PRIORITY))
def test_numbers_outside_the_range_are_refused(value: int) -> None:
    for form in (value, str(value)):
        with pytest.raises(InvalidPriority, match="from 0 to 1000"):
            parse_priority(form)


@pytest.mark.parametrize(
    "value", ["", " ", "URGENT", "1.5", "-1", "+5", "1e3", "²", "٧", "9" * 5000, True, False]
)
def test_anything_else_is_refused(value: int | str) -> None:
    with pytest.raises(InvalidPriority, match="LOW, MEDIUM, HIGH, CRITICAL"):
        parse_priority(value)
