"""`hypervisor show`: the row for the health of the replicas."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor.cli.commands.show import _health


@pytest.mark.parametrize(
    ("results", "row"),
    [
        ([], ""),
        ([None], ""),
        (["healthy"], "healthy"),
        (["starting", "unhealthy"], "0 starting, 1 unhealthy"),
        ([None, "unhealthy"], "1 unhealthy"),
    ],
)
def test_each_replica_with_a_health_check_is_named(results: list[str | None], row: str) -> None:
    placements: Any = [{"replica": number, "health": result} for number, result in enumerate(results)]
    deployment: Any = {"replicas": max(1, len(results)), "placements": placements}
    assert _health(deployment) == row
