"""The events of an organization, as pages and as a stream. They share the responses of deployments."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.sse import format_sse_event

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_BIG_ID
from hypervisor.api.services import ServicesDep
from hypervisor.api.streams import EventStream, until_stopping, with_pings
from hypervisor.deployments.schemas.responses import EventResponse
from hypervisor.events.relay import follow, history, newest_id
from hypervisor.organizations.access import ViewerAccess, still_member
from hypervisor.store.tables import Event

router = APIRouter(prefix="/organizations/{organization_id}/events", tags=["Events"], route_class=JsonRoute)

After = Annotated[
    int | None, Query(ge=0, le=MAX_BIG_ID, description="Only events with higher ids than this.")
]


@router.get("", responses=documented(401, 404, 422, 429))
async def list_organization_events(
    access: ViewerAccess,
    services: ServicesDep,
    after: After = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
) -> Page[EventResponse]:
    """The events of the organization, oldest first. Events of deleted deployments stay."""
    start: int = decode_cursor(cursor, int)[0] if cursor else after or 0
    async with services.database.read() as session:
        rows = await history(session, organization_ids=[access.organization_id], after=start, limit=limit + 1)
    answers = [EventResponse.model_validate(row) for row in rows]
    return page_of(answers, limit, lambda last: encode_cursor(last.id))


@router.get("/stream", response_class=EventStream, responses=documented(401, 404, 422, 429))
async def stream_organization_events(
    access: ViewerAccess,
    services: ServicesDep,
    after: After = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_BIG_ID)] = None,
) -> EventStream:
    """Events as they happen: the type, the id, and the event as JSON.

    With `Last-Event-ID` (browsers send it when they reconnect) or `after`, missed events come first.
    Without both, an id without data comes first, so that a stream can be resumed before its first event. A
    client that is too slow is disconnected, and may reconnect. The stream ends when the server stops and,
    within half a minute, when the session or the membership has ended.
    """
    start = after if last_event_id is None else last_event_id
    first = b""
    if start is None:
        async with services.database.read() as session:
            start = await newest_id(session, access.organization_id)
        first = f"id: {start}\n\n".encode()
    events = follow(services.relay, services.database, access.organization_id, start)
    may_go_on = still_member(services.logins, services.clock, access.principal, access.organization_id)
    return EventStream(until_stopping(services.stopping, with_pings(_formatted(first, events)), may_go_on))


async def _formatted(
    first: bytes, events: AsyncGenerator[Sequence[Event], None]
) -> AsyncGenerator[bytes, None]:
    """`first`, if any, then each batch of events as one chunk."""
    if first:
        yield first
    async with aclosing(events):
        async for rows in events:
            yield b"".join(map(_format, rows))


def _format(row: Event) -> bytes:
    answer = EventResponse.model_validate(row)
    return format_sse_event(data_str=answer.model_dump_json(), event=row.type, id=str(row.id))
