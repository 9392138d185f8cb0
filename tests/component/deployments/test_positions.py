"""Queue positions of new deployments, without a count of a long queue for each."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.dialects.postgresql import asyncpg

from hypervisor.deployments.queue import position_counter
from hypervisor.store.driver.address import parse_database_url
from tests.support.api import ok
from tests.support.statements import statements_of
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"


@pytest.mark.parametrize("far_back", [0, 1000], ids=["from a known place", "from the rows"])
async def test_new_deployments_get_their_positions(
    team: Team, monkeypatch: pytest.MonkeyPatch, far_back: int
) -> None:
    monkeypatch.setattr(position_counter, "FAR_BACK", far_back)
    await team.cluster()
    assert [(await team.submit(f"n{number}"))["queue_position"] for number in range(3)] == [1, 2, 3]
    bodies = [{"name": f"m{number}"} for number in range(5)]
    answers = await asyncio.gather(*(team.developer.post(DEPLOYMENTS, body) for body in bodies))
    assert sorted(ok(one, 201)["queue_position"] for one in answers) == [4, 5, 6, 7, 8]
    batch = [{"name": f"b{number}", "priority": 100 + 400 * (number % 2)} for number in range(4)]
    items = ok(await team.developer.post(f"{DEPLOYMENTS}/batch", {"deployments": batch}), 201)["items"]
    assert [one["queue_position"] for one in items] == [11, 9, 12, 10]
    urgent = await team.submit("urgent", priority="HIGH")
    assert urgent["queue_position"] == 1


async def test_positions_at_the_end_of_a_long_queue_need_no_query(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.api.services.coordination.queue = None
    monkeypatch.setattr(position_counter, "FAR_BACK", 2)
    await team.cluster()
    batch = [{"name": f"n{number}"} for number in range(4)]
    items = ok(await team.developer.post(f"{DEPLOYMENTS}/batch", {"deployments": batch}), 201)["items"]
    assert [one["queue_position"] for one in items] == [1, 2, 3, 4]
    with statements_of(team.api.services.database) as statements:
        bodies = [{"name": f"m{number}"} for number in range(3)]
        answers = await asyncio.gather(*(team.developer.post(DEPLOYMENTS, body) for body in bodies))
    assert sorted(ok(one, 201)["queue_position"] for one in answers) == [5, 6, 7]
    assert not [one for one in statements if "created_at <" in one or "count(*)" in one]
    assert (await team.submit("urgent", priority="HIGH"))["queue_position"] == 1
    team.api.clock.advance(position_counter.ESTIMATE_SECONDS)
    with statements_of(team.api.services.database) as statements:
        assert (await team.submit("last"))["queue_position"] == 9
    assert [one for one in statements if "count(*)" in one]


async def test_a_generic_query_plan_uses_the_index_of_the_queue(
    postgresql_url: str,
) -> None:
    between = position_counter.BETWEEN.compile(dialect=asyncpg.dialect())  # type: ignore[no-untyped-call]
    engine = parse_database_url(postgresql_url).engine()
    async with engine.connect() as connection:
        for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off"):
            await connection.exec_driver_sql(f"SET {setting}")
        await connection.exec_driver_sql(f"PREPARE places AS {between}")
        plan = await connection.exec_driver_sql("EXPLAIN EXECUTE places(1, 500, now(), now())")
        assert "ix_deployments_queue" in "\n".join(line for (line,) in plan)
    await engine.dispose()
