"""The checkpoint variables of a workload: the URL and token for reports, and the previous attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import text

from hypervisor.infra.security.tokens import AttemptClaims
from hypervisor.lifecycle.states import State
from hypervisor.store.base import Base
from hypervisor.store.tables import Attempt
from tests.support.wait import eventually
from tests.support.world import PYTHON, World

PROGRAM = """
import json, os, pathlib, time
folder = pathlib.Path(os.environ["FOLDER"])
beside = folder / f"{os.environ['HV_ATTEMPT']}.new"
beside.write_text(json.dumps(dict(os.environ)))
beside.rename(beside.with_suffix(".json"))
time.sleep(300)
"""


async def test_an_attempt_gets_its_report_url_and_its_predecessor(world: World, tmp_path: Path) -> None:
    cluster = await world.cluster(runtime="process", cpu=1000)
    async with world.loops():
        env = {"FOLDER": str(tmp_path), "HV_CHECKPOINT_URL": "http://elsewhere.test"}
        job = await world.submit(cluster, priority=100, command=[PYTHON, "-c", PROGRAM], env=env)
        first = await environment_of(tmp_path, 1)
        assert first["HV_CHECKPOINT_URL"] == f"http://127.0.0.1:9/api/v1/deployments/{job}/checkpoint"
        assert [name for name in first if name.startswith("HV_PREVIOUS")] == []
        token = first["HV_CHECKPOINT_TOKEN"]
        token_data = world.reporting.tokens.read(token, world.clock.now())
        assert token_data.claims == AttemptClaims(job, 1)

        await world.reaches(job, State.RUNNING)
        await store_checkpoint(world, job, {"step": 7})
        await preempt(world, cluster, job)
        second = await environment_of(tmp_path, 2)
        assert (second["HV_PREVIOUS_ATTEMPT"], second["HV_PREVIOUS_OUTCOME"]) == ("1", "preempted")
        checkpoint = json.loads(second["HV_PREVIOUS_CHECKPOINT"])
        assert (checkpoint["attempt"], checkpoint["step"]) == (1, 7)
        assert second["HV_CHECKPOINT_TOKEN"] != token

        await world.reaches(job, State.RUNNING)
        await preempt(world, cluster, job)
        third = await environment_of(tmp_path, 3)
        assert third["HV_PREVIOUS_ATTEMPT"] == "2"
        assert json.loads(third["HV_PREVIOUS_CHECKPOINT"]) == checkpoint
        assert token not in await everything_stored(world)
        await world.stop(job)
        await world.reaches(job, State.STOPPED)


async def environment_of(folder: Path, attempt: int) -> dict[str, str]:
    """The environment of an attempt, as its workload wrote it."""
    path = folder / f"{attempt}.json"
    await eventually(path.exists, what=f"attempt {attempt} has started")
    environment: dict[str, str] = json.loads(path.read_text())
    return environment


async def store_checkpoint(world: World, deployment_id: int, checkpoint: dict[str, Any]) -> None:
    (live,) = await world.attempts(deployment_id)
    async with world.database.write() as session:
        attempt = await session.get_one(Attempt, live.id)
        attempt.checkpoint_at, attempt.checkpoint = world.clock.now(), checkpoint


async def preempt(world: World, cluster: int, deployment_id: int) -> None:
    """Preempt the deployment by a short one of higher priority."""
    attempts = len(await world.attempts(deployment_id))
    preemptor = await world.submit(cluster, name="more", priority=900, command=["true"])
    await world.reaches(preemptor, State.SUCCEEDED)
    await eventually(lambda: _has_attempts(world, deployment_id, attempts + 1), what="the victim is back")


async def _has_attempts(world: World, deployment_id: int, number: int) -> bool:
    return len(await world.attempts(deployment_id)) == number


async def everything_stored(world: World) -> str:
    async with world.database.read() as session:
        tables = [table.name for table in Base.metadata.sorted_tables]
        rows = [list(await session.execute(text(f"SELECT * FROM {name}"))) for name in tables]
    return repr(rows)
