"""Forecasts, replays and moves on a real server with real processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.cli_user import CliUser, registered_user
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync

MINUTE = timedelta(minutes=1)
BUSY = timedelta(seconds=PROMPT)
"""The tolerance for a late start on a busy machine."""


@pytest.fixture(scope="module")
def grace(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> CliUser:
    """An admin with an organization and a cluster of two cores."""
    user = registered_user(tmp_path_factory.mktemp("people"), shared_server.url, "grace")
    user.run_ok("org", "create", "Forecasters")
    user.run_ok("cluster", "create", "small", "--cpu", "2", "--ram", "4")
    return user


def wait_until_started(user: CliUser, name: str) -> dict[str, str]:
    def poll() -> dict[str, str] | None:
        found: dict[str, str] = user.run_json("show", name)
        return found if found["started_at"] else None

    return eventually_sync(poll)


def test_the_start_is_in_the_estimated_range(grace: CliUser) -> None:
    limit = ("--max-runtime", "20", "--grace", "1")
    grace.run_ok("deploy", "busy", "--job", "--cpu", "2", *limit, "--", "sleep", "90")
    wait_until_started(grace, "busy")
    waiting = ("deploy", "waiting", "--job", "--cpu", "2")
    forecast = grace.run_json(*waiting, "--plan", "--", "true")
    grace.run_ok(*waiting, "--", "true")
    assert (forecast["outcome"], forecast["queue_position"]) == ("waits", 1)
    assert [deployment["name"] for deployment in forecast["estimated_start"]["after"]] == ["busy"]
    start = forecast["estimated_start"]
    earliest, latest = datetime.fromisoformat(start["earliest"]), datetime.fromisoformat(start["latest"])
    started = datetime.fromisoformat(wait_until_started(grace, "waiting")["started_at"])
    assert earliest <= started <= latest + BUSY
    assert latest - earliest < MINUTE


def test_a_plan_submits_nothing(grace: CliUser) -> None:
    grace.run_ok("deploy", "long", "--job", "--cpu", "2", "--max-runtime", "600", "--", "sleep", "300")
    wait_until_started(grace, "long")
    output = grace.run_ok("deploy", "other", "--job", "--cpu", "2", "--plan", "--", "true").stdout
    assert "other on small: waits" in output
    assert "between" in output
    assert "max_runtime_seconds" in output
    assert "other" not in grace.run_ok("ps", "-a").stdout
    assert "is empty" in grace.run_ok("queue").stdout
    grace.run_ok("deploy", "other", "--job", "--cpu", "2", "--", "true")
    assert [(entry["position"], entry["name"]) for entry in grace.run_json("queue", "small")] == [
        (1, "other")
    ]
    grace.run_ok("cancel", "other", "long", "--wait")


def test_the_forecast_victim_is_evicted_and_the_decision_is_replayed(grace: CliUser) -> None:
    grace.run_ok("deploy", "low", "--cpu", "2", "-p", "LOW", "--", "sleep", "300")
    wait_until_started(grace, "low")
    forecast = grace.run_json("deploy", "urgent", "--job", "--cpu", "1", "-p", "HIGH", "--plan", "--", "true")
    assert forecast["outcome"] == "preempts"
    assert [victim["name"] for victim in forecast["victims"]] == ["low"]
    assert "low" in grace.run_ok("deploy", "urgent", "--job", "-p", "HIGH", "--plan", "--", "true").stdout

    grace.run_ok("deploy", "urgent", "--job", "--cpu", "1", "-p", "HIGH", "--wait", "--", "true")
    (receipt,) = grace.run_json("explain", "urgent")["receipts"]
    assert [victim["name"] for victim in receipt["victims"]] == ["low"]

    decisions = grace.run_json("decisions", "small")
    evicting = next(decision for decision in decisions if decision["evictions"])
    again = grace.run_json("replay", str(evicting["id"]))
    assert (again["equal"], again["intact"]) == (True, True)
    assert again["evictions"] == [[receipt["victims"][0]["id"], receipt["preemptor"]["id"]]]
    assert "equal" in grace.run_ok("replay", str(evicting["id"])).stdout
    grace.run_ok("cancel", "low", "--wait")


def test_a_plan_of_a_file_has_one_forecast_per_deployment(grace: CliUser, tmp_path: Path) -> None:
    never = grace.run_ok("deploy", "huge", "--cpu", "64", "--plan", "--", "true")
    assert "never" in never.stdout
    work = tmp_path / "work.yaml"
    work.write_text(
        "cluster: small\nkind: job\ndeployments:\n"
        "- {name: one, command: 'true', cpu: 1}\n- {name: two, command: 'true', cpu: 32}\n"
    )
    outcomes = [planned["outcome"] for planned in grace.run_json("deploy", "-f", str(work), "--plan")]
    assert outcomes == ["fits_now", "never"]


def test_fragmentation_consolidation_and_move(grace: CliUser) -> None:
    grace.run_ok(
        "cluster", "create", "pair", "--node", "name=n,cpu=2,ram=4,count=2", "--placement-policy", "spread"
    )
    for name in ("left", "right"):
        grace.run_ok("deploy", name, "-c", "pair", "--cpu", "1", "--grace", "1", "--", "sleep", "300")
        wait_until_started(grace, name)
    forecast = grace.run_json("cluster", "fragmentation", "pair", "--cpu", "2")
    (move,) = forecast["opening"]["moves"]
    shown = grace.run_ok("cluster", "fragmentation", "pair", "--cpu", "2", "--ram", "1").stdout
    assert f"{move['from_node']} -> {move['to_node']}" in shown

    grace.run_ok("deploy", "wide", "-c", "pair", "--cpu", "2", "--", "sleep", "300")
    proposed = grace.run_ok("cluster", "consolidation", "pair").stdout
    assert "left: n" in proposed or "right: n" in proposed
    assert "wide: on n" in proposed
    grace.run_ok("cancel", "wide", "--wait")

    moved = move["deployment"]["name"]
    grace.run_ok("cluster", "move", "pair", moved, move["to_node"])
    eventually_sync(lambda: grace.run_json("show", moved)["node_name"] == move["to_node"])
    assert "fits on" in grace.run_ok("cluster", "fragmentation", "pair", "--cpu", "2").stdout
    grace.run_ok("cancel", "left", "right", "--wait")
