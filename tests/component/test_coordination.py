"""The service during outages of Redis: responses stay correct, only their speed may suffer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from hypervisor.control.maintenance.queue_index_sync import QueueIndexSync
from hypervisor.infra.coordination.queue_index import QueueIndex
from hypervisor.infra.security import passwords
from tests.support.api import Api, ok, refused, running_api
from tests.support.redis import RedisServer
from tests.support.servers import free_port
from tests.support.teams import Team, new_team
from tests.support.wait import eventually

PRIORITIES = {"low": 100, "middle": 500, "high": 900}


@asynccontextmanager
async def team_on(
    url: str, folder: Path, redis_url: str | None, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[Team]:
    """A team on an API without control loops (unless `settings` change the role), so that queues stay."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with running_api(url, folder, redis_url=redis_url, **{"role": "api", **settings}) as api:
        yield await new_team(api)


async def test_positions_stay_correct_while_redis_is_flushed_stopped_and_restarted(
    database_url: str, tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with team_on(database_url, tmp_path / "data", own_redis.url, monkeypatch) as team:
        cluster = (await team.cluster())["id"]
        await wait_for_index(team.api, cluster)
        for name, priority in PRIORITIES.items():
            created = await team.submit(name, cluster_id=cluster, priority=priority)
            assert created["queue_position"] == 1
        assert await positions(team) == {"high": 1, "middle": 2, "low": 3}

        own_redis.call("FLUSHALL")
        assert (await team.submit("flushed", cluster_id=cluster, priority=700))["queue_position"] == 2
        assert await positions(team) == {"high": 1, "flushed": 2, "middle": 3, "low": 4}
        await wait_for_index(team.api, cluster)
        assert await positions(team) == {"high": 1, "flushed": 2, "middle": 3, "low": 4}

        own_redis.stop()
        assert (await team.submit("away", cluster_id=cluster, priority=950))["queue_position"] == 1
        assert await positions(team) == {"away": 1, "high": 2, "flushed": 3, "middle": 4, "low": 5}

        own_redis.start()
        await wait_for_index(team.api, cluster)
        assert await positions(team) == {"away": 1, "high": 2, "flushed": 3, "middle": 4, "low": 5}


async def test_a_redis_that_hangs_is_not_used_until_it_answers(
    sqlite_url: str, tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with team_on(
        sqlite_url, tmp_path / "data", own_redis.url, monkeypatch, rate_limit="10000/minute"
    ) as team:
        cluster = (await team.cluster())["id"]
        await wait_for_index(team.api, cluster)
        own_redis.hang()
        for position, name in enumerate(PRIORITIES, start=1):
            assert (await team.submit(name, cluster_id=cluster))["queue_position"] == position
        assert not queue_index(team.api).ready(cluster)
        own_redis.resume()
        await wait_for_index(team.api, cluster)
        assert sorted(position or 0 for position in (await positions(team)).values()) == [1, 2, 3]


async def test_a_single_server_keeps_the_index_in_memory(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with team_on(sqlite_url, tmp_path / "data", None, monkeypatch, role="all") as team:
        cluster = (await team.cluster())["id"]
        running = await team.submit("all of it", cluster_id=cluster, required_cpu_cores=4, priority=1000)
        await eventually(lambda: is_running(team, running["id"]))
        await eventually(lambda: queue_index(team.api).ready(cluster))
        for name, priority in PRIORITIES.items():
            created = await team.submit(name, cluster_id=cluster, priority=priority, required_cpu_cores=1)
            assert created["queue_position"] == 1
        expected = {"all of it": None, "high": 1, "middle": 2, "low": 3}
        assert await positions(team) == expected


async def test_an_ended_login_stays_ended_when_redis_loses_its_data(
    sqlite_url: str, tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with team_on(sqlite_url, tmp_path / "data", own_redis.url, monkeypatch) as team:
        ok(await team.developer.get("/api/v1/auth/me"))
        ok(await team.developer.post("/api/v1/auth/logout"), 204)
        own_redis.call("FLUSHALL")
        refused(await team.developer.get("/api/v1/auth/me"), 401, "session_ended")
        own_redis.stop()
        refused(await team.developer.get("/api/v1/auth/me"), 401, "session_ended")


async def test_the_server_starts_and_serves_while_redis_is_down(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    async with team_on(sqlite_url, tmp_path / "data", unreachable, monkeypatch) as team:
        description = team.api.services.coordination.describe()
        assert "does not answer" in description
        assert "secret" not in description
        cluster = (await team.cluster())["id"]
        for position in (1, 2):
            created = await team.submit("work", cluster_id=cluster)
            assert created["queue_position"] == position


async def is_running(team: Team, deployment_id: int) -> bool:
    return bool((await team.get(deployment_id))["status"] == "RUNNING")


async def wait_for_index(api: Api, cluster_id: int) -> None:
    """Wait until positions in the cluster come from the index; run its sync meanwhile."""
    index = queue_index(api)
    index_sync = QueueIndexSync(api.services.database, api.clock, api.services.wakeup, index)

    async def ready() -> bool:
        await index_sync.sync(everything=False)
        return index.ready(cluster_id)

    await eventually(ready)


def queue_index(api: Api) -> QueueIndex:
    index = api.services.coordination.queue
    assert index is not None
    return index


async def positions(team: Team) -> dict[str, int | None]:
    listed: list[dict[str, Any]] = ok(await team.viewer.get("/api/v1/deployments"))["items"]
    single = {item["name"]: (await team.get(item))["queue_position"] for item in listed}
    assert single == {item["name"]: item["queue_position"] for item in listed}
    return single
