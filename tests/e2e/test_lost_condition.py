"""A deployment with a running parent waits for room on a real server, with real processes and the CLI."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.e2e.cli_user import CliUser, registered_user
from tests.support.server import HypervisorServer
from tests.support.wait import eventually_sync

FOREVER = ("--", "sleep", "600")


@pytest.mark.slow
def test_a_child_does_not_start_without_its_parent(server: HypervisorServer, tmp_path: Path) -> None:
    ada = registered_user(tmp_path, server.url, "ada")
    ada.run_ok("org", "create", "Lab")
    ada.run_ok("cluster", "create", "lab", "--cpu", "1", "--ram", "1", "--runtime", "process")
    _deploy(ada, "api", "0.2", "--wait")
    _deploy(ada, "filler", "0.6", "--wait")
    _deploy(ada, "child", "0.6", "--after", "api:running")
    assert _is(ada, "child", "QUEUED")
    ada.run_ok("stop", "api")
    eventually_sync(partial(_is, ada, "api", "STOPPED"))
    blocked = ada.run_json("show", "child")
    assert (blocked["state"], blocked["reason_code"]) == ("BLOCKED", "dependency_stopped")
    assert "waits for api" in ada.run_ok("explain", "child").stdout
    ada.run_ok("cancel", "filler")
    # The scheduler places this one after the filler has ended, so it has considered the child by then.
    _deploy(ada, "witness", "0.1", "--wait")
    assert ada.run_json("attempts", "child") == []
    ada.run_ok("start", "api")
    eventually_sync(partial(_is, ada, "child", "RUNNING"))
    changes = [event for event in ada.run_json("events", "child") if event["type"] == "deployment.state"]
    assert [change["to_state"] for change in changes] == [
        "QUEUED",
        "BLOCKED",
        "QUEUED",
        "STARTING",
        "RUNNING",
    ]


def _deploy(ada: CliUser, name: str, cpu: str, *options: str) -> None:
    ada.run_ok("deploy", name, "--cpu", cpu, "--ram", "0.1", *options, *FOREVER)


def _is(ada: CliUser, name: str, state: str) -> bool:
    return bool(ada.run_json("show", name)["state"] == state)
