"""Objects of responses against the declared types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hypervisor.client.declared import violation
from hypervisor.client.records import parse_object
from tests.component.cli.described import Described

API = Described("train", "no room")


def test_what_a_server_sends_has_no_violation() -> None:
    pages = (API.deployments(), API.attempts(), API.events(), API.queue(), API.cluster(), API.shares())
    for content in (*pages, API.members(), API.organizations(), API.decisions(), API.fragmentation()):
        assert violation(parse_object("http://x", json.dumps(content))) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 5),
        ("required_cpu_cores", 10**400),
        ("required_cpu_cores", float("nan")),
        ("priority", True),
        ("created_at", "2026-99-99T00:00:00Z"),
        ("created_at", "2026-01-01"),
        ("gpu_indices", "0"),
        ("labels", ["a"]),
        ("reason_data", {"shortfall": {"cpu_cores": "x"}}),
        ("placements", [{"node_name": 5, "replica": 0}]),
    ],
    ids=str,
)
def test_a_value_that_no_server_sends_is_named(key: str, value: Any) -> None:
    content = json.dumps({**API.deployment(1, "QUEUED"), key: value})
    found = violation(parse_object("http://x", content))
    assert found is not None
    inner = {"reason_data": "shortfall", "placements": "node_name"}.get(key, key)
    assert repr(inner) in found
