"""Request bodies of the SDK: what JSON would change or cannot hold is refused by name."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.client.errors import ClientError
from hypervisor.client.json_body import encode

CIRCLE: dict[str, Any] = {}
CIRCLE["again"] = CIRCLE


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            {"D": datetime.date(2026, 1, 1)},
            "env.D is a date, which JSON does not have: pass the text that is meant",
        ),
        ({"D": decimal.Decimal("1.10")}, "env.D is a Decimal, which"),
        ({"P": Path("/data")}, "env.P is a PosixPath, which"),
        ({"B": b"x"}, "env.B is a bytes, which"),
        ({"S": {"a"}}, "env.S is a set, which"),
        ({"N": float("nan")}, "env.N is nan, which JSON does not have"),
        ({"N": float("-inf")}, "env.N is -inf, which JSON does not have"),
        ({"L": ["x", "\ud800"]}, "env.L[1] contains \\ud800, which is not valid UTF-8"),
        ({"L": "x\udcff"}, "env.L contains \\xff, which is not valid UTF-8"),
        ({"\udc80": "x"}, "env has a key that contains \\x80, which is not valid UTF-8"),
        ({1: "x"}, "env has the key 1, which is not a str"),
        ({None: "x"}, "env has the key None, which is not a str"),
        ({True: "x"}, "env has the key True, which is not a str"),
        (CIRCLE, "is nested too deeply, or contains itself"),
    ],
)
def test_a_value_that_is_not_json_is_named(env: Any, line: str) -> None:
    with pytest.raises(ClientError) as refused:
        encode({"name": "a", "env": env})
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@given(
    body=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_any_json_is_sent_as_it_is(body: Any) -> None:
    assert json.loads(encode(body)) == body


def test_a_tuple_is_a_list() -> None:
    assert encode({"command": ("a", "b")}) == b'{"command":["a","b"]}'
