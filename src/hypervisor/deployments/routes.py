"""Endpoints under /deployments: submit, list, get, update, delete and commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response, status
from fastapi.responses import JSONResponse
from structlog.contextvars import bind_contextvars

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_ID, SafeStr
from hypervisor.api.services import AppServices, ServicesDep
from hypervisor.clusters.policy import visible_organizations
from hypervisor.deployments import presenter
from hypervisor.deployments.access import listing, repository
from hypervisor.deployments.access.policy import (
    DeploymentAccess,
    DeploymentChanger,
    DeploymentLister,
    DeploymentReader,
    DeploymentSubmitter,
)
from hypervisor.deployments.schemas.filters import (
    Labels,
    PriorityFilter,
    States,
    StatusAlias,
    one_of_states,
    parse_labels,
)
from hypervisor.deployments.schemas.requests import (
    MAX_GRACE,
    DeploymentBatch,
    DeploymentCreate,
    DeploymentUpdate,
)
from hypervisor.deployments.schemas.responses import DeploymentResponse
from hypervisor.deployments.spec import update
from hypervisor.deployments.spec.dependency_refs import BatchItemError
from hypervisor.deployments.spec.idempotency import KeyedRequest, keyed_request
from hypervisor.deployments.spec.submit import Submission, Submitted
from hypervisor.deployments.state import commands
from hypervisor.errors import Conflict, HypervisorError
from hypervisor.infra.observability.tracing import current_traceparent
from hypervisor.lifecycle.commands import Command
from hypervisor.store.database import WriteSession

router = APIRouter(prefix="/deployments", tags=["Deployments"], route_class=JsonRoute)

REPLAYED = "Idempotent-Replayed"
READS = documented(401, 404, 422, 429)
CHANGES = documented(401, 403, 404, 409, 422, 429)
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "Accepted: the deployment is being stopped; the deletion follows."}
}
IdempotencyKey = Annotated[
    SafeStr | None,
    Header(
        min_length=1,
        max_length=255,
        description="A repeated request with the same key and body creates nothing.",
    ),
]
Force = Annotated[bool, Query(description="Also while other deployments wait for it: they are cancelled.")]


@router.post("", status_code=status.HTTP_201_CREATED, responses=CHANGES)
async def create_deployment(
    body: DeploymentCreate,
    user: DeploymentSubmitter,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> DeploymentResponse:
    """Submit a deployment. It waits in the queue or for its dependencies; `reason` says which."""
    keyed = _keyed(services, user.user_id, idempotency_key, "single", body)
    try:
        answers = await _submit(services, user, [body], keyed, response)
    except BatchItemError as refused:
        raise refused.error from None
    bind_contextvars(deployment_id=answers[0].id)
    return answers[0]


@router.post("/batch", status_code=status.HTTP_201_CREATED, responses=CHANGES)
async def create_deployments(
    body: DeploymentBatch,
    user: DeploymentSubmitter,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Page[DeploymentResponse]:
    """Submit up to 1,000 deployments, all or none. `depends_on` may name other deployments of the batch."""
    keyed = _keyed(services, user.user_id, idempotency_key, "batch", body)
    try:
        return Page(items=await _submit(services, user, body.deployments, keyed, response))
    except BatchItemError as refused:
        raise _batch_error(refused, body.deployments[refused.index].name) from None


@router.get("", responses=READS)
async def list_deployments(
    user: DeploymentLister,
    services: ServicesDep,
    organization_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    cluster_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    state: States = (),
    status: StatusAlias = (),
    priority: PriorityFilter = None,
    label: Labels = (),
    name: Annotated[SafeStr | None, Query(max_length=100)] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
) -> Page[DeploymentResponse]:
    """List deployments of the caller's organizations, newest first. Several `state`s are alternatives.

    A page may be short or empty where few deployments match: the list ends where `next_cursor` is null.
    """
    (before,) = decode_cursor(cursor, int) if cursor else (None,)
    filters = listing.Filters(
        visible_organizations(user, organization_id),
        cluster_id=cluster_id,
        states=one_of_states(state, status),
        priority=priority,
        labels=parse_labels(label),
        name=name,
    )
    async with services.database.read() as session:
        found = await listing.page(session, filters, before=before, limit=limit)
        items = await presenter.describe_all(session, found.rows, services.coordination.queue)
    await _fill_positions(services, items)
    return Page(
        items=items, next_cursor=None if found.next_before is None else encode_cursor(found.next_before)
    )


@router.get("/{deployment_id}", responses=READS)
async def get_deployment(access: DeploymentReader, services: ServicesDep) -> DeploymentResponse:
    """Get one deployment with its reason and its position in the queue."""
    return await _describe(services, access)


@router.patch("/{deployment_id}", responses=CHANGES)
async def update_deployment(
    body: DeploymentUpdate, access: DeploymentChanger, services: ServicesDep
) -> DeploymentResponse:
    """Change the given fields. A live deployment accepts only priority, labels, name and max_retries."""

    async def work(session: WriteSession) -> DeploymentResponse:
        now = services.clock.now()
        changed = await update.update(session, access, body, encryptor=services.encryptor, now=now)
        return await presenter.describe(session, changed, services.coordination.queue)

    answer = await _refused_alone(services, work)
    await _fill_positions(services, [answer])
    _wake(services, "scheduler")
    return answer


router.add_api_route(
    "/{deployment_id}",
    update_deployment,
    methods=["PUT"],
    operation_id="replace_deployment",
    responses=CHANGES,
)


@router.delete("/{deployment_id}", status_code=status.HTTP_204_NO_CONTENT, responses={**ACCEPTED, **CHANGES})
async def delete_deployment(
    access: DeploymentChanger, services: ServicesDep, force: Force = False
) -> Response:
    """Delete a deployment with its attempts and logs. A live one is stopped first. Its events remain."""

    async def work(session: WriteSession) -> bool:
        return await commands.delete(session, access, force=force, now=services.clock.now())

    deleted = await services.database.transact(work)
    _wake(services, "scheduler", "reconciler", "maintenance")
    if deleted:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    sentence = "The deployment is being stopped and is deleted as soon as it has ended."
    return JSONResponse({"detail": sentence}, status_code=status.HTTP_202_ACCEPTED)


@router.post("/{deployment_id}/start", responses=CHANGES)
async def start_deployment(access: DeploymentChanger, services: ServicesDep) -> DeploymentResponse:
    """Queue an ended deployment again."""
    return await _command(services, access, Command.START)


@router.post("/{deployment_id}/stop", responses=CHANGES)
async def stop_deployment(
    access: DeploymentChanger,
    services: ServicesDep,
    grace_period_seconds: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_GRACE,
            description="Seconds between the stop signal and SIGKILL; default: that of the deployment.",
        ),
    ] = None,
) -> DeploymentResponse:
    """Stop a live deployment. It can be started again."""
    return await _command(services, access, Command.STOP, grace_period_seconds)


@router.post("/{deployment_id}/cancel", responses=CHANGES)
async def cancel_deployment(access: DeploymentChanger, services: ServicesDep) -> DeploymentResponse:
    """Cancel a queued or live deployment."""
    return await _command(services, access, Command.CANCEL)


async def _submit(
    services: AppServices,
    user: DeploymentSubmitter,
    requests: Sequence[DeploymentCreate],
    keyed: KeyedRequest | None,
    response: Response,
) -> list[DeploymentResponse]:
    submission = Submission(
        user, requests, services.encryptor, services.clock.now(), keyed, traceparent=current_traceparent()
    )
    submitted: Submitted = await services.submissions.submit(submission)
    if submitted.earlier_ids:
        response.headers[REPLAYED] = "true"
        answers = await _earlier_responses(services, submitted.earlier_ids)
    else:
        answers = presenter.describe_new(submitted.created)
    _wake(services, "scheduler")
    await _fill_positions(services, answers, new=not submitted.earlier_ids)
    return answers


async def _earlier_responses(services: AppServices, ids: Sequence[int]) -> list[DeploymentResponse]:
    async with services.database.read() as session:
        found = await repository.find_all(session, ids)
        answers = await presenter.describe_all(session, found, services.coordination.queue)
    if len(answers) < len(ids):
        raise Conflict(
            "idempotency_key_gone",
            "The deployments of this Idempotency-Key have been deleted since. Use a new key.",
        )
    return answers


def _keyed(
    services: AppServices, user_id: int, key: str | None, kind: str, body: DeploymentCreate | DeploymentBatch
) -> KeyedRequest | None:
    return None if key is None else keyed_request(user_id, key, kind, body, services.encryptor)


def _batch_error(refused: BatchItemError, name: str) -> HypervisorError:
    error = refused.error
    detail = f"deployments[{refused.index}] ({name}): {error.detail} No deployment was created."
    return type(error)(error.code, detail, extra={**error.extra, "index": refused.index})


async def _refused_alone(services: AppServices, work: Any) -> DeploymentResponse:
    try:
        answer: DeploymentResponse = await services.database.transact(work)
    except BatchItemError as refused:
        raise refused.error from None
    return answer


async def _describe(services: AppServices, access: DeploymentAccess) -> DeploymentResponse:
    async with services.database.read() as session:
        answers = await presenter.describe_all(session, [access.deployment], services.coordination.queue)
    if not answers:
        raise access.hidden
    await _fill_positions(services, answers)
    return answers[0]


async def _command(
    services: AppServices, access: DeploymentAccess, command: Command, grace_seconds: int | None = None
) -> DeploymentResponse:
    async def work(session: WriteSession) -> DeploymentResponse:
        now = services.clock.now()
        deployment = await commands.apply_command(
            session, access, command, now=now, grace_seconds=grace_seconds
        )
        return await presenter.describe(session, deployment, services.coordination.queue)

    answer = await services.database.transact(work)
    _wake(services, "scheduler", "reconciler")
    await _fill_positions(services, [answer])
    return answer


async def _fill_positions(
    services: AppServices, answers: Sequence[DeploymentResponse], *, new: bool = False
) -> None:
    await services.positions.fill(services.coordination.queue, answers, new=new)


def _wake(services: AppServices, *topics: str) -> None:
    for topic in topics:
        services.wakeup.notify(topic)
