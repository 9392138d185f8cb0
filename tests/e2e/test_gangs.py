"""A gang of three on a real server with real processes: all run, and the end of one replica ends all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from hypervisor.client import Client
from tests.e2e.cli_user import PASSWORD
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync

WORKER = """
import os, pathlib, sys, time
me = os.environ["HV_REPLICA"]
print(me, "of", os.environ["HV_REPLICAS"], "on", os.environ["HV_GANG_NODES"], flush=True)
while not pathlib.Path(sys.argv[1]).exists() or me != "1":
    time.sleep(0.05)
sys.exit(7)
"""


@pytest.mark.slow
def test_three_run_and_when_one_fails_all_stop(server: HypervisorServer, tmp_path: Path) -> None:
    signal = tmp_path / "fail"
    with Client(server.url) as client:
        client.accounts.register("ada", "ada@example.com", PASSWORD)
        client.accounts.login("ada", PASSWORD)
        client.organizations.create("Team")
        nodes = [{"name": name, "cpu_cores": 2, "ram_gb": 2} for name in ("a", "b")]
        client.clusters.create("lab", {"nodes": nodes})
        gang = client.deployments.create(
            {
                "name": "gang",
                "kind": "job",
                "replicas": 3,
                "required_ram_gb": 0.1,
                "command": ["python3", "-c", WORKER, str(signal)],
            }
        )
        running = client.deployments.wait(
            gang["id"], lambda each: each["status"] == "RUNNING", timeout=PROMPT
        )
        assert [one["node_name"] for one in running["placements"]] == ["a", "a", "b"]
        for replica in range(3):
            eventually_sync(partial(client.deployments.logs, gang["id"], replica=replica))
            output = client.deployments.logs(gang["id"], replica=replica)
            assert output.split() == [str(replica), "of", "3", "on", "a,a,b"]

        signal.touch()
        failed = client.deployments.wait(gang["id"], lambda each: each["status"] == "FAILED", timeout=PROMPT)
        assert (failed["exit_code"], failed["reason"]) == (7, "replica 1: ended with exit code 7")
        outcomes = [one["outcome"] for one in client.deployments.attempts(gang["id"])]
        assert outcomes == ["gang_failed", "failed", "gang_failed"]
        allocated = client.clusters.get(failed["cluster_id"])["allocated"]
        assert allocated["cpu_cores"] == 0
