"""The endpoints for the logs, events and attempts of one deployment."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_ID
from hypervisor.api.services import ServicesDep
from hypervisor.api.streams import EventStream, until_stopping, with_pings
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentReader
from hypervisor.deployments.history import logs
from hypervisor.deployments.history.log_position import LogPosition
from hypervisor.deployments.schemas.field_types import MAX_REPLICAS
from hypervisor.deployments.schemas.responses import AttemptResponse, EventResponse
from hypervisor.errors import Invalid
from hypervisor.events.relay import history
from hypervisor.organizations.access import still_member

router = APIRouter(prefix="/deployments", tags=["Deployments"], route_class=JsonRoute)

READS = documented(401, 404, 422, 429)
LOG_TYPES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "The output, byte for byte. With `follow` it is a stream of events: `log` for each line, then "
            "`end` with the state of the deployment, or `error` with a message. An event `partial` before a "
            "`log` says that the line goes on in the next `log`: it is very long, or unfinished. A line ends "
            "at a line feed only; a carriage return in it is sent as a line break of the data. Bytes that "
            "are not UTF-8 become U+FFFD. An event `position` has the place so far as its id and data: a "
            "broken stream goes on after it with the header `Last-Event-ID`."
        ),
        "content": {"text/plain": {}, "text/event-stream": {}},
    }
}
TAIL = f"How many of the last lines. {logs.MAX_TAIL}, the maximum, is the whole output."


@router.get(
    "/{deployment_id}/logs",
    response_class=PlainTextResponse,
    responses={**LOG_TYPES, **READS, **documented(503)},
)
async def get_logs(
    access: DeploymentReader,
    services: ServicesDep,
    tail: Annotated[int, Query(ge=0, le=logs.MAX_TAIL, description=TAIL)] = 100,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Default: the last.")] = None,
    replica: Annotated[int, Query(ge=0, lt=MAX_REPLICAS, description="Which of several replicas.")] = 0,
    follow: Annotated[
        bool, Query(description="Continue until the attempt has ended, as server-sent events.")
    ] = False,
    last_event_id: Annotated[
        str | None,
        Header(max_length=512, description="With `follow`: go on after this `position` of a broken stream."),
    ] = None,
) -> Response:
    """The stdout and stderr of an attempt; empty when there is none yet."""
    database, runtimes = services.database, services.runtimes
    position = _position(last_event_id) if follow and last_event_id else None
    if position is not None:
        attempt = position.attempt
    found = await logs.find_attempt(database, access, attempt, replica)
    lines = None if tail == logs.MAX_TAIL else tail
    if not follow:
        return StreamingResponse(await logs.read(runtimes, found, lines), media_type="text/plain")
    found = found or await logs.await_attempt(database, access, replica)
    await logs.check_reachable(runtimes, found)
    events = with_pings(logs.follow(database, runtimes, access.deployment_id, found, position or lines))
    may_go_on = still_member(services.logins, services.clock, access.principal, access.organization_id)
    return EventStream(until_stopping(services.stopping, events, may_go_on))


@router.get("/{deployment_id}/events", responses=READS)
async def list_deployment_events(
    access: DeploymentReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[EventResponse]:
    """The events of the deployment, oldest first."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    async with services.database.read() as session:
        rows = await history(session, deployment_id=access.deployment_id, after=after, limit=limit + 1)
    answers = [EventResponse.model_validate(row) for row in rows]
    return page_of(answers, limit, lambda last: encode_cursor(last.id))


@router.get("/{deployment_id}/attempts", responses=READS)
async def list_attempts(
    access: DeploymentReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[AttemptResponse]:
    """The attempts (runs on a node), oldest first; one entry for each replica."""
    number, replica = decode_cursor(cursor, int, int) if cursor else (0, 0)
    after = (number, replica)
    async with services.database.read() as session:
        rows = await repository.attempts_page(session, access.deployment_id, after=after, limit=limit + 1)
        preemptors = {row.preempted_by for row in rows if row.preempted_by is not None}
        known = await repository.ids_in_organization(session, access.organization_id, preemptors)
    answers = [AttemptResponse.model_validate(row) for row in rows]
    for answer in answers:
        if answer.preempted_by not in known:
            answer.preempted_by = None
    return page_of(answers, limit, lambda last: encode_cursor(last.number, last.replica))


def _position(text: str) -> LogPosition:
    position = LogPosition.parse(text)
    if position is None:
        raise Invalid(
            "invalid_position",
            "`Last-Event-ID` is not a position of this stream. Send the data of its last event `position`.",
        )
    return position
