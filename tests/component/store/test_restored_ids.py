"""The SQL statement in the how-to for a restored PostgreSQL raises all ids."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text

from tests.support.world import new_world, simulated

HOW_TO = Path(__file__).parents[3] / "docs" / "backup.md"


async def test_ids_continue_a_million_higher_also_in_empty_tables(
    postgresql_url: str, tmp_path: Path
) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    async with new_world(postgresql_url, tmp_path) as world:
        cluster = await world.cluster()
        before = await world.submit(cluster, **simulated())
        async with world.database.write() as session:
            changed = (await (await session.connection()).exec_driver_sql(statement)).all()
        assert len(changed) > 5
        assert await world.submit(cluster, **simulated()) == before + 1_000_001
        async with world.database.write() as session:
            next_attempt = await session.scalar(text("SELECT nextval('attempts_id_seq')"))
        assert next_attempt == 1_000_001
