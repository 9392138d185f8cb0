"""Rows that are written together and the ids that they get."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from hypervisor.store.database import ROWS_IN_ONE_INSERT, Database
from hypervisor.store.tables import Event, Organization
from tests.support.statements import statements_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 2 * ROWS_IN_ONE_INSERT + 1


async def test_rows_that_are_written_together_get_their_own_ids_in_their_order(database_url: str) -> None:
    database = Database(database_url)
    try:
        async with database.write() as session:
            organization = Organization(name="acme", name_normalized="acme", created_at=NOW)
            session.add(organization)
            await session.flush()
            made = [_event(organization.id, f"event {number}") for number in range(MANY)]
            with statements_of(database) as statements:
                session.add_all(made)
                await session.flush()
        assert len([one for one in statements if one.startswith("INSERT")]) <= 3
        assert [one.id for one in made] == sorted(one.id for one in made)
        async with database.read() as session:
            rows = (await session.execute(select(Event.id, Event.message))).all()
        assert {one.id: one.message for one in made} == {row.id: row.message for row in rows}
    finally:
        await database.close()


def _event(organization_id: int, message: str) -> Event:
    return Event(organization_id=organization_id, at=NOW, actor="system", type="test", message=message)
