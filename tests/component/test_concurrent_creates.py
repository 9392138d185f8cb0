"""Twenty concurrent submits on a cluster with capacity for ten: the API with its loops, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypervisor.infra.clock import SystemClock
from tests.support.api import Person, ok, running_api
from tests.support.wait import eventually

REQUEST = {"name": "same", "required_cpu_cores": 1, "required_ram_gb": 1, "kind": "service"}


async def test_ten_of_twenty_submits_run(database_url: str, tmp_path: Path) -> None:
    async with running_api(
        database_url, tmp_path / "data", SystemClock(), scheduler_interval=1.0, role="all"
    ) as api:
        ada = await api.person()
        await ada.organization()
        cluster = {"name": "ten", "runtime": "simulated", "total_cpu_cores": 10, "total_ram_gb": 64}
        cluster_id = ok(await ada.post("/api/v1/clusters", cluster), 201)["id"]
        answers = await asyncio.gather(*(ada.post("/api/v1/deployments", REQUEST) for _ in range(20)))
        ids = {ok(answer, 201)["id"] for answer in answers}
        assert len(ids) == 20

        waiting = await eventually(lambda: _ten_run_and_ten_wait(ada))

        assert sorted(item["queue_position"] for item in waiting) == list(range(1, 11))
        state = ok(await ada.get(f"/api/v1/clusters/{cluster_id}"))
        assert state["allocated"]["cpu_cores"] == 10
        assert state["available"]["cpu_cores"] == 0


async def _ten_run_and_ten_wait(person: Person) -> list[dict[str, Any]]:
    items = ok(await person.get("/api/v1/deployments?limit=100"))["items"]
    statuses = [item["status"] for item in items]
    waiting = [item for item in items if item["status"] == "QUEUED"]
    assert statuses.count("RUNNING") == 10, statuses
    assert len(waiting) == 10
    for item in waiting:
        assert item["reason_code"] == "insufficient_cpu", item["reason_code"]
        assert item["reason_data"]["shortfall"]["cpu_cores"] == 1
    return waiting
