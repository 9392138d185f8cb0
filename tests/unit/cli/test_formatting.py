"""Formatting of amounts, times, explanations and receipts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.cli.commands.top import usage_bar
from hypervisor.cli.core.explanation import explanation_lines
from hypervisor.cli.core.formatting import amounts, checkpoint, duration
from hypervisor.client.models import Explanation


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3725, "1h 2m"), (90_000, "1d 1h"), (-5, "0s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_amounts_leave_out_zeros() -> None:
    assert amounts({"cpu_cores": 2.0, "ram_gb": 0.5, "gpu_count": 0}) == "2 CPU, 0.5 GB"
    assert amounts({"cpu_cores": 0, "ram_gb": 0, "gpu_count": 0}) == "nothing"


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, 6), (1, 12), (1.7, 12), (-1, 0)])
def test_bars_stay_inside_their_width(share: float, full: int) -> None:
    text = usage_bar(share).plain
    assert (text.count("█"), len(text)) == (full, 12)


def test_an_explanation_names_shortfall_suggestion_line_and_receipt() -> None:
    explanation: Explanation = {
        "deployment_id": 7,
        "status": "QUEUED",
        "sentence": "no node has a GPU free",
        "reason": {
            "shortfall": {"cpu_cores": 0, "ram_gb": 0, "gpu_count": 1},
            "nearest_node": "node-1",
            "suggestion": "free 1 GPU on node-1",
        },
        "queue_position": 2,
        "ahead": [{"deployment_id": 5, "name": "first", "priority": 750}],
        "dependencies": [],
        "receipts": [
            {
                "at": "2026-01-01T10:00:00Z",
                "rule": "priority",
                "rule_sentence": "priority 750 over 100",
                "preemptor": {"id": 9, "name": "urgent", "priority": 750},
                "victims": [{"id": 7, "name": "sweep", "priority": 100, "lost_work_seconds": 3.5}],
                "spared": [{"id": 8, "name": "other", "why": "was not needed"}],
                "node": "node-1",
                "returns": "at its old place",
            }
        ],
    }
    text = "\n".join(line.plain for line in explanation_lines("sweep", explanation))
    for part in (
        "sweep is QUEUED: no node",
        "1 GPU on node-1",
        "free 1 GPU",
        "position 2",
        "first (750)",
        "urgent",
        "3.5 GPU",
    ):
        assert part in text
    assert "other: was not needed" in text


def test_name_and_state_are_not_repeated() -> None:
    explanation: Explanation = {"status": "RUNNING", "sentence": "job is RUNNING on node-1: runs on node-1"}
    (line,) = explanation_lines("job", explanation)
    assert line.plain == "job is RUNNING on node-1: runs on node-1"


def test_a_checkpoint_is_shown_with_its_age() -> None:
    at = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    assert checkpoint({"checkpoint_at": None, "checkpoint": None}) == ""
    assert checkpoint({"checkpoint_at": at, "checkpoint": {}}).startswith("(3")
    report = {"progress": 0.4, "step": 12, "message": "epoch 3"}
    assert checkpoint({"checkpoint_at": at, "checkpoint": report}).startswith("40% step 12 (3")
