"""The tables of `ps`, `watch`, `demo`, `queue` and `attempts` keep their names at every width."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from hypervisor.cli.commands.attempts import attempts_table
from hypervisor.cli.commands.queue import queue_table
from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.tables import Table, table

STARTED, FINISHED = "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z"
NAMES = ("train-iris", "serve-iris")


def reason_of(length: int) -> str:
    return ("missing " * length)[: length - 1] + "."


def listed(reason: str) -> Table:
    deployments: list[Any] = [
        {
            "id": number,
            "name": name,
            "kind": "job",
            "status": "SUCCEEDED",
            "priority": 50,
            "priority_label": "MEDIUM",
            "required_cpu_cores": 1,
            "required_ram_gb": 0.5,
            "required_gpu_count": 1,
            "node_name": "node-1",
            "gpu_indices": [0],
            "created_at": STARTED,
            "started_at": STARTED,
            "finished_at": FINISHED,
            "reason": reason,
        }
        for number, name in enumerate(NAMES)
    ]
    return deployments_table(deployments)


def queued(reason: str) -> Table:
    entries: list[Any] = [
        {
            "position": number,
            "id": number,
            "name": name,
            "priority_label": "MEDIUM",
            "share": 0.125,
            "age_factor": 0.001,
            "waited_seconds": 83,
            "nomination": None,
            "reason": reason,
        }
        for number, name in enumerate(NAMES)
    ]
    return queue_table(entries)


def attempted(message: str) -> Table:
    found: list[Any] = [
        {
            "number": number,
            "replica": 0,
            "node_name": name,
            "gpu_indices": [0, 1],
            "runtime": "process",
            "started_at": STARTED,
            "finished_at": FINISHED,
            "outcome": "succeeded",
            "exit_code": 0,
            "message": message,
        }
        for number, name in enumerate(NAMES)
    ]
    return attempts_table(found)


def lines_at(width: int, rendered: Table) -> list[str]:
    output = StringIO()
    Console(file=output, width=width).print(rendered)
    lines = output.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("length", [20, 200, 2000])
@pytest.mark.parametrize(
    ("make", "contents"),
    [
        (listed, ("SUCCEEDED", "MEDIUM", "node-1 gpu 0", "30s")),
        (queued, ("MEDIUM", "1m 23s")),
        (attempted, ("0,1", "succeeded")),
    ],
)
def test_a_long_reason_leaves_the_other_columns_whole(
    make: Callable[[str], Table], contents: tuple[str, ...], length: int, width: int
) -> None:
    lines = lines_at(width, make(reason_of(length)))

    for name in NAMES:
        (row,) = (line for line in lines if name in line)
        assert all(text in row for text in contents)
        assert "missi" in row


def test_attempts_have_columns_for_health_and_restarts_only_with_values() -> None:
    attempt: Any = {"number": 1, "replica": 0, "node_name": "a", "started_at": STARTED}
    (heading, *_) = (line for line in lines_at(200, attempts_table([attempt])) if "node" in line)
    assert "health" not in heading
    assert "restarted" not in heading
    noted: Any = {**attempt, "health": "unhealthy", "restarted_at": FINISHED}
    shown = "\n".join(lines_at(200, attempts_table([attempt, noted])))
    assert all(text in shown for text in ("health", "restarted", "unhealthy"))


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_name_wider_than_the_terminal_is_folded_and_not_cut(width: int) -> None:
    name = "n" * 63
    lines = lines_at(width, table([">id", "name", "~reason"], [(1, name, reason_of(2000))]))
    assert sum(line.count("n") for line in lines if "reason" not in line) >= len(name)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_text_that_fits_is_not_cut(width: int) -> None:
    (row,) = (
        line for line in lines_at(width, table(["name", "~reason"], [("a", "b" * 60)])) if "bbb" in line
    )
    assert "b" * 60 in row
