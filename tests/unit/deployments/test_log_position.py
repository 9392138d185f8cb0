"""The place in a log from which a broken stream goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.deployments.history.log_position import LogPosition


@given(
    st.integers(1, 999_999_999),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200),
)
def test_a_position_is_text_and_back(attempt: int, position: str) -> None:
    place = LogPosition(attempt, position)
    assert LogPosition.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "5", "1.", "0.p1", "01.p1", "-1.p1", "a.p1", "1.p 1", "1.p\n", "9" * 20 + ".p1", "1.é"]
)
def test_other_text_is_no_position(text: str) -> None:
    assert LogPosition.parse(text) is None
