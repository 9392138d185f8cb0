"""Ids of rows that are inserted in one statement."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from hypervisor.store.database import ROWS_IN_ONE_INSERT, Database
from hypervisor.store.tables import Event, Organization
from tests.support.statements import statements_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 2 * ROWS_IN_ONE_INSERT + 1


async def test_rows_of_one_insert_get_ids_in_their_order(database_url: str) -> None:
    database = Database(database_url)
    try:
        async with database.write() as session:
            organization = Organization(name="acme", name_normalized="acme", created_at=NOW)
            session.add(organization)
            await session.flush()
            events = [_event(organization.id, f"event {number}") for number in range(MANY)]
            with statements_of(database) as statements:
                session.add_all(events)
                await session.flush()
        assert len([statement for statement in statements if statement.startswith("INSERT")]) <= 3
        assert [event.id for event in events] == sorted(event.id for event in events)
        async with database.read() as session:
            rows = (await session.execute(select(Event.id, Event.message))).all()
        assert {event.id: event.message for event in events} == {row.id: row.message for row in rows}
    finally:
        await database.close()


def _event(organization_id: int, message: str) -> Event:
    return Event(organization_id=organization_id, at=NOW, actor="system", type="test", message=message)
