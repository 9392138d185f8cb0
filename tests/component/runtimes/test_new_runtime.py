"""A runtime needs one entry in the registry: then clusters can use it and jobs run on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.cli.core.configuration import load_settings
from hypervisor.infra.clock import SystemClock
from hypervisor.runtimes.kinds import RUNTIMES, RuntimeKind
from tests.support import other_runtime
from tests.support.api import ok, running_api
from tests.support.teams import new_team
from tests.support.wait import eventually

OTHER = RuntimeKind(
    note="as simulated, with its own files",
    module=other_runtime.__name__,
    local=True,
    honoured=frozenset({"command", "grace_period_seconds"}),
    in_name=frozenset({"required_cpu_cores", "required_ram_gb", "required_gpu_count"}),
    needs={"command": "give command"},
)


async def test_a_registered_runtime_runs_a_job(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, other_runtime.NAME, OTHER)
    monkeypatch.setenv("DEFAULT_RUNTIME", other_runtime.NAME)
    assert load_settings().default_runtime == other_runtime.NAME
    async with running_api(database_url, tmp_path, SystemClock(), default_runtime="other") as api:
        team = await new_team(api)
        assert "other" in ok(await team.viewer.get("/api/v1/system/info"))["runtimes"]
        cluster = await team.cluster(runtime=None)
        assert cluster["resolved_runtime"] == "other"
        assert cluster["runtime_note"] == "other: as simulated, with its own files"
        body = {"name": "job", "kind": "job", "cluster_id": cluster["id"]}
        refused = await team.developer.post("/api/v1/deployments", body)
        assert refused.json()["code"] == "command_required"
        refused = await team.developer.post(
            "/api/v1/deployments", {**body, "command": ["x"], "env": {"A": "1"}}
        )
        assert refused.json()["fields"] == ["env"]
        job = await team.submit(**body, command=["x"], labels={"simulate/duration": "0.1"})

        async def succeeded() -> bool:
            return bool((await team.get(job))["state"] == "SUCCEEDED")

        await eventually(succeeded)
    assert (tmp_path / "other").is_dir()
