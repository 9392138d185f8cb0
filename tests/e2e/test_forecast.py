"""A forecast that comes true on a real server with real processes, and a decision that is replayed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.people import Person, newcomer
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync

MINUTE = timedelta(minutes=1)
BUSY = timedelta(seconds=PROMPT)
"""What a busy machine may add to a start that was due."""


@pytest.fixture(scope="module")
def grace(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """An admin with an organization and a cluster of two cores."""
    person = newcomer(tmp_path_factory.mktemp("people"), shared_server.url, "grace")
    person.do("org", "create", "Forecasters")
    person.do("cluster", "create", "small", "--cpu", "2", "--ram", "4")
    return person


def runs(person: Person, name: str) -> dict[str, str]:
    def look() -> dict[str, str] | None:
        seen: dict[str, str] = person.ask("show", name)
        return seen if seen["started_at"] else None

    return eventually_sync(look)


def test_a_start_falls_into_the_range_that_was_told(grace: Person) -> None:
    limit = ("--max-runtime", "20", "--grace", "1")
    grace.do("deploy", "busy", "--job", "--cpu", "2", *limit, "--", "sleep", "90")
    runs(grace, "busy")
    wish = ("deploy", "wish", "--job", "--cpu", "2")
    told = grace.ask(*wish, "--plan", "--", "true")
    grace.do(*wish, "--", "true")
    assert (told["outcome"], told["queue_position"]) == ("waits", 1)
    assert [one["name"] for one in told["estimated_start"]["after"]] == ["busy"]
    start = told["estimated_start"]
    earliest, latest = datetime.fromisoformat(start["earliest"]), datetime.fromisoformat(start["latest"])
    started = datetime.fromisoformat(runs(grace, "wish")["started_at"])
    assert earliest <= started <= latest + BUSY
    assert latest - earliest < MINUTE


def test_a_plan_is_read_and_nothing_is_made(grace: Person) -> None:
    grace.do("deploy", "long", "--job", "--cpu", "2", "--max-runtime", "600", "--", "sleep", "300")
    runs(grace, "long")
    read = grace.do("deploy", "other", "--job", "--cpu", "2", "--plan", "--", "true").stdout
    assert "other on small: waits" in read
    assert "between" in read
    assert "max_runtime_seconds" in read
    assert "other" not in grace.do("ps", "-a").stdout
    assert "Nothing waits" in grace.do("queue").stdout
    grace.do("deploy", "other", "--job", "--cpu", "2", "--", "true")
    assert [(one["position"], one["name"]) for one in grace.ask("queue", "small")] == [(1, "other")]
    grace.do("cancel", "other", "long", "--wait")


def test_who_would_give_way_does_and_the_decision_is_replayed(grace: Person) -> None:
    grace.do("deploy", "low", "--cpu", "2", "-p", "LOW", "--", "sleep", "300")
    runs(grace, "low")
    told = grace.ask("deploy", "urgent", "--job", "--cpu", "1", "-p", "HIGH", "--plan", "--", "true")
    assert told["outcome"] == "preempts"
    assert [victim["name"] for victim in told["victims"]] == ["low"]
    assert "low" in grace.do("deploy", "urgent", "--job", "-p", "HIGH", "--plan", "--", "true").stdout

    grace.do("deploy", "urgent", "--job", "--cpu", "1", "-p", "HIGH", "--wait", "--", "true")
    (receipt,) = grace.ask("explain", "urgent")["receipts"]
    assert [victim["name"] for victim in receipt["victims"]] == ["low"]

    made = grace.ask("decisions", "small")
    evicting = next(one for one in made if one["evictions"])
    again = grace.ask("replay", str(evicting["id"]))
    assert (again["equal"], again["intact"]) == (True, True)
    assert again["evictions"] == [[receipt["victims"][0]["id"], receipt["preemptor"]["id"]]]
    assert "equal" in grace.do("replay", str(evicting["id"])).stdout
    grace.do("cancel", "low", "--wait")


def test_what_never_fits_and_what_fits_are_told_apart(grace: Person, tmp_path: Path) -> None:
    never = grace.do("deploy", "huge", "--cpu", "64", "--plan", "--", "true")
    assert "never" in never.stdout
    work = tmp_path / "work.yaml"
    work.write_text(
        "cluster: small\nkind: job\ndeployments:\n"
        "- {name: one, command: 'true', cpu: 1}\n- {name: two, command: 'true', cpu: 32}\n"
    )
    outcomes = [one["outcome"] for one in grace.ask("deploy", "-f", str(work), "--plan")]
    assert outcomes == ["fits_now", "never"]


def test_the_room_is_judged_and_work_is_moved(grace: Person) -> None:
    grace.do(
        "cluster", "create", "pair", "--node", "name=n,cpu=2,ram=4,count=2", "--placement-policy", "spread"
    )
    for name in ("left", "right"):
        grace.do("deploy", name, "-c", "pair", "--cpu", "1", "--grace", "1", "--", "sleep", "300")
        runs(grace, name)
    told = grace.ask("cluster", "fragmentation", "pair", "--cpu", "2")
    (move,) = told["opening"]["moves"]
    shown = grace.do("cluster", "fragmentation", "pair", "--cpu", "2", "--ram", "1").stdout
    assert f"{move['from_node']} -> {move['to_node']}" in shown

    grace.do("deploy", "wide", "-c", "pair", "--cpu", "2", "--", "sleep", "300")
    proposed = grace.do("cluster", "consolidation", "pair").stdout
    assert "left: n" in proposed or "right: n" in proposed
    assert "wide: on n" in proposed
    grace.do("cancel", "wide", "--wait")

    moved = move["deployment"]["name"]
    grace.do("cluster", "move", "pair", moved, move["to_node"])
    eventually_sync(lambda: grace.ask("show", moved)["node_name"] == move["to_node"])
    assert "It fits on" in grace.do("cluster", "fragmentation", "pair", "--cpu", "2").stdout
    grace.do("cancel", "left", "right", "--wait")
