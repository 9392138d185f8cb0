"""The state file of a process instance: a workload can write to it, so any content has a meaning."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypervisor.runtimes.process.instance_state import parse_state

CLAIM = "123 456 boot"
LINE = st.sampled_from(["exit", "finished", "copier", "void", "7 8 boot"])
VALUE = st.sampled_from(
    ["²", "٣", "abc", "inf", "nan", "1e999", "-1", "9" * 5000, "3", "1700000000.5", "", "\0"]
)


@given(st.lists(st.builds("{} {}".format, LINE, VALUE)).map("\n".join) | st.text())
@example("exit ²")
@example("\n".join([CLAIM, "finished nan"]))
def test_any_content_is_read_and_all_values_are_possible_ones(text: str) -> None:
    state = parse_state(text)
    assert state.exit_code is None or 0 <= state.exit_code <= 255
    assert state.finished_at is None or math.isfinite(state.finished_at)
    assert state.identity is None or state.identity.pid > 0


@pytest.mark.parametrize(
    "line",
    [
        *("exit ²", "exit 256", "exit 9999999999999", "exit -1", "exit", "exit 1 2"),
        *("finished abc", "finished inf", "finished nan", "finished 99999999999", "copier ²", ""),
    ],
)
def test_an_unreadable_line_counts_as_absent(line: str) -> None:
    plain = parse_state(f"{CLAIM}\ncopier 9\nexit 3\nfinished 1700000000.25\n")
    assert parse_state(f"{CLAIM}\n{line}\ncopier 9\nexit 3\nfinished 1700000000.25\n") == plain
    assert (plain.exit_code, plain.copier, plain.finished_at) == (3, 9, 1700000000.25)


@pytest.mark.parametrize("first", ["exit 3", "x", "² 1 boot", "0 1 boot", "1" * 5000 + " 1 boot", "1 2"])
def test_a_file_without_a_readable_claim_is_damaged(first: str) -> None:
    assert parse_state(f"{first}\n").is_damaged


@pytest.mark.parametrize("first", [CLAIM, "void", "", "\0\0\0", "finished 1700000000.5"])
def test_a_claim_or_a_void_one_is_no_damage(first: str) -> None:
    assert not parse_state(f"{first}\n").is_damaged
