"""Instance names identify workloads after a restart, so they must round-trip exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.names import InstanceName

INSTALLS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=4, max_size=16)
IDS = st.integers(0, 2**63 - 1)


@given(st.builds(InstanceName, INSTALLS, IDS, IDS, IDS))
def test_a_name_parses_back_to_its_parts(name: InstanceName) -> None:
    assert InstanceName.parse(str(name)) == name


@given(st.from_regex(r"hv-\w{4,16}-\d+-\d+-\d+", fullmatch=True) | st.text())
def test_every_parsed_text_is_written_back_unchanged(text: str) -> None:
    name = InstanceName.parse(text)

    assert name is None or str(name) == text


def test_the_format_is_the_documented_one() -> None:
    assert str(InstanceName("a1b2c3", 7, 2)) == "hv-a1b2c3-7-2-0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hv-a1b2c3-7-2",
        "hv-a1b2c3-7-2-0-1",
        "hv-a1b2c3-7-2-x",
        "hv-A1B2C3-7-2-0",
        "hv-abc-7-2-0",
        "hv-a1b2c3--7-2-0",
        "hv-a1b2c3-7-2-0\n",
        "/hv-a1b2c3-7-2-0",
        "xhv-a1b2c3-7-2-0",
        "nginx",
        "hv-a1b2c3-" + "7" * 5000 + "-2-0",
    ],
)
def test_other_names_are_not_parsed(text: str) -> None:
    assert InstanceName.parse(text) is None
