"""The simulation of the history of a cluster."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from tests.e2e.cli_user import registered_user
from tests.support.server import HypervisorServer
from tests.support.wait import eventually_sync


def test_the_history_of_a_cluster_is_simulated_and_compared_with_more_nodes(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    ada = registered_user(tmp_path, shared_server.url, "ada")
    ada.run_ok("org", "create", "Vision team")
    ada.run_ok("cluster", "create", "lab", "--cpu", "2", "--ram", "4")
    nothing = ada.run("simulate", "--from-history", "lab")
    assert (nothing.code, nothing.stderr) == (1, "error: nothing ran on lab in the last 7 days\n")

    # In virtual time the first one starts at once, so it has to run on behind the second one's arrival for
    # longer than it took to start here, however slow the machine is.
    gate = tmp_path / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.1; done"
    ada.run_ok("deploy", "first", "--job", "--cpu", "2", "--", "sh", "-c", wait)
    eventually_sync(lambda: ada.run_json("show", "first")["started_at"])
    first = ada.run_json("show", "first")
    ada.run_ok("deploy", "second", "--job", "--cpu", "2", "--", "sh", "-c", wait)
    took = datetime.fromisoformat(first["started_at"]) - datetime.fromisoformat(first["created_at"])
    time.sleep(took.total_seconds() + 1)
    gate.touch()
    ada.run_ok("deploy", "last", "--job", "--cpu", "1", "--wait", "--timeout", "55", "--", "true")
    ada.run_ok("deploy", "svc", "--cpu", "2", "--priority", "LOW", "--wait", "--", "sleep", "300")
    ada.run_ok("deploy", "queued", "--job", "--cpu", "2", "--priority", "LOW", "--", "true")
    eventually_sync(lambda: ada.run_json("show", "queued")["reason_code"])

    outcome = ada.run("simulate", "--from-history", "lab", "--nodes", "+100%", "--until", "1", "--json", "-")
    assert outcome.code == 0, outcome.stderr
    assert "1 deployment never started and is left out" in outcome.stderr
    as_it_was, doubled = outcome.data["runs"]
    assert [run["label"] for run in (as_it_was, doubled)] == ["fgd, 1 node", "fgd, 2 nodes"]
    assert as_it_was["capacity"] == {"gpu_count": 0, "cpu_cores": 2, "ram_gb": 4}
    assert as_it_was["jobs"] == {"arrived": 4, "ended": 3, "running": 1, "waiting": 0, "rejected": 0}
    assert [each["label"] for each in as_it_was["by_organization"]] == ["Vision team"]
    assert doubled["wait_seconds"]["mean"] < as_it_was["wait_seconds"]["mean"]
