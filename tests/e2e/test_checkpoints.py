"""A workload that reports checkpoints, is preempted and resumes, on a real server with real processes."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import pytest

from hypervisor.client import Client
from tests.e2e.cli_user import PASSWORD
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync

WORKLOAD = """
import json, time
from hypervisor.client.checkpoint import previous, report

before = previous()
print("follows", json.dumps(before), flush=True)
step = before["checkpoint"]["step"] if before else 0
while step < 1000:
    time.sleep(0.6)
    step += 1
    if report(step=step, progress=step / 1000, message=f"step {step}", path=f"/models/{step}"):
        print("kept", step, flush=True)
"""
STALE = """
import os, time
from hypervisor.client.checkpoint import report
print("kept" if report(step=1) else "refused", flush=True)
mine = f"/{os.environ['HV_DEPLOYMENT_ID']}/"
os.environ["HV_CHECKPOINT_URL"] = os.environ["HV_CHECKPOINT_URL"].replace(mine, "/1/")
time.sleep(1.1)
print("kept" if report(step=2) else "refused", flush=True)
"""


@pytest.mark.slow
def test_a_preempted_job_resumes_from_its_checkpoint(server: HypervisorServer) -> None:
    with Client(server.url) as client:
        client.accounts.register("ada", "ada@example.com", PASSWORD)
        client.accounts.login("ada", PASSWORD)
        client.organizations.create("Team")
        client.clusters.create("lab", {"total_cpu_cores": 2, "total_ram_gb": 4})
        victim = client.deployments.create(job("victim", WORKLOAD, cpu=2, priority="LOW"))
        eventually_sync(lambda: client.deployments.get(victim["id"])["checkpoint"])
        eventually_sync(lambda: steps_of(client, victim["id"])[-1:] > [3], within=PROMPT)
        safe_at = datetime.fromisoformat(client.deployments.get(victim["id"])["checkpoint_at"] or "")

        urgent = client.deployments.create(job("urgent", STALE, cpu=1, priority="HIGH"))
        ended = client.deployments.wait(
            urgent["id"], lambda each: each["status"] == "SUCCEEDED", timeout=PROMPT
        )
        assert client.deployments.logs(ended["id"]).split() == ["kept", "refused"]
        client.deployments.wait(
            victim["id"],
            lambda each: each["attempts_made"] == 2 and each["status"] == "RUNNING",
            timeout=PROMPT,
        )
        eventually_sync(lambda: client.deployments.logs(victim["id"], attempt=2))

        first, _ = client.deployments.attempts(victim["id"])
        assert first["outcome"] == "preempted"
        line = client.deployments.logs(victim["id"], attempt=2).splitlines()[0]
        before = json.loads(line.removeprefix("follows "))
        assert (before["attempt"], before["outcome"]) == (1, "preempted")
        assert first["checkpoint"] is not None
        assert before["checkpoint"] == {"attempt": 1, "at": first["checkpoint_at"]} | first["checkpoint"]

        receipt = client.deployments.explain(victim["id"])["receipts"][0]
        lost = receipt["victims"][0]["lost_work_seconds"]
        # Two cores, from what was safe then or later to when it had to yield.
        ended_at = datetime.fromisoformat(first["finished_at"] or "")
        assert 0 <= lost <= 2 * (ended_at - safe_at).total_seconds()
        assert safe_at > datetime.fromisoformat(first["started_at"] or "")
        secret = "eyJ"
        assert secret not in server.log.read_text()
        client.deployments.cancel(victim["id"])
        client.deployments.wait(victim["id"], lambda each: each["status"] == "CANCELLED", timeout=PROMPT)


def job(name: str, program: str, *, cpu: float, priority: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "job",
        "command": [sys.executable, "-c", program],
        "required_cpu_cores": cpu,
        "priority": priority,
        "grace_period_seconds": 2,
    }


def steps_of(client: Client, deployment_id: int) -> list[int]:
    lines = client.deployments.logs(deployment_id).splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("kept")]
