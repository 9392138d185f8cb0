"""Queries on deployments, and on their dependencies, labels, attempts and nominations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from sqlalchemy import String, Table, column, delete, insert, select, tuple_, update, values
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import instance_dict

from hypervisor.deployments.queue import index_updates
from hypervisor.lifecycle.states import WAITING
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import (
    Attempt,
    Cluster,
    Dependency,
    Deployment,
    DeploymentLabel,
    Event,
    NominationRow,
)

_TABLE = cast(Table, Deployment.__table__)

_NEW = insert(_TABLE).returning(_TABLE.c.id, sort_by_parameter_order=True)
_EMPTY = dict.fromkeys(_TABLE.columns.keys())
_AT_FIRST = {"generation": 0, "attempts_made": 0, "retries_used": 0, "preemptions": 0}


async def insert_deployments(session: WriteSession, rows: Sequence[Mapping[str, object]]) -> list[Deployment]:
    """Insert new deployments as rows with the same columns; their ids follow the order.

    The returned objects are for reading and belong to no session: tracking them costs more than the insert.
    """
    complete = [{**_AT_FIRST, **row} for row in rows]
    ids = await session.scalars(_NEW, complete)
    deployments = [_as_written({**row, "id": id_}) for row, id_ in zip(complete, ids, strict=True)]
    index_updates.note_new(session, deployments)
    return deployments


async def update_reasons(session: WriteSession, deployments: Sequence[Deployment]) -> None:
    """Update the reasons of deployments that belong to no session."""
    if deployments:
        await session.execute(
            update(Deployment),
            [{"id": one.id, "reason_code": one.reason_code, "reason": one.reason} for one in deployments],
        )


async def find(session: AsyncSession, deployment_id: int) -> Deployment | None:
    return await session.get(Deployment, deployment_id)


async def lock(session: WriteSession, deployment_id: int) -> Deployment | None:
    """The deployment, read again and locked for a change, whatever the session or the caller read before."""
    return await session.get(Deployment, deployment_id, with_for_update=True, populate_existing=True)


async def lock_parents(session: WriteSession, deployment_id: int) -> None:
    """Lock the parents of a deployment (`FOR SHARE`), so that their states stay until the commit."""
    own = select(Dependency.depends_on_id).where(Dependency.deployment_id == deployment_id)
    await session.execute(
        select(Deployment.id).where(Deployment.id.in_(own)).order_by(Deployment.id).with_for_update(read=True)
    )


async def find_all(session: AsyncSession, ids: Collection[int]) -> list[Deployment]:
    """These deployments in the order of `ids`; missing ones are left out."""
    found: dict[int, Deployment] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(select(Deployment).where(Deployment.id.in_(chunk)))
        found.update((row.id, row) for row in rows)
    return [found[id_] for id_ in ids if id_ in found]


async def newest_by_name(
    session: AsyncSession, organization_id: int, names: Collection[str]
) -> dict[str, int]:
    """The id of the newest deployment by name, for the names that exist."""
    found: dict[str, int] = {}
    for chunk in chunks(sorted(names)):
        wanted = values(column("name", String), name="wanted").data([(name,) for name in chunk]).cte()
        # The end of each name's range of the index; grouping would read all deployments of these names.
        newest = (
            select(Deployment.id)
            .where(Deployment.organization_id == organization_id, Deployment.name == wanted.c.name)
            .order_by(Deployment.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        rows = await session.execute(select(wanted.c.name, newest.label("id")))
        found.update((name, id_) for name, id_ in rows if id_ is not None)
    return found


async def lock_shared(
    session: WriteSession, organization_id: int, ids: Collection[int]
) -> dict[int, Deployment]:
    """The deployments of the organization among `ids`, locked (`FOR SHARE`) so that their states stay.

    Waits for a transaction that writes an end. An end after this transaction finds its dependents.
    """
    found: dict[int, Deployment] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(
            select(Deployment)
            .where(Deployment.organization_id == organization_id, Deployment.id.in_(chunk))
            .order_by(Deployment.id)
            .with_for_update(read=True)
            .execution_options(populate_existing=True)
        )
        found.update((row.id, row) for row in rows)
    return found


async def ancestors(session: AsyncSession, ids: Collection[int]) -> dict[int, list[int]]:
    """All direct and indirect dependencies: child -> parents. One recursive query."""
    reached = (
        select(Dependency.deployment_id, Dependency.depends_on_id)
        .where(Dependency.deployment_id.in_(sorted(ids)))
        .cte("reached", recursive=True)
    )
    reached = reached.union(
        select(Dependency.deployment_id, Dependency.depends_on_id).where(
            Dependency.deployment_id == reached.c.depends_on_id
        )
    )
    edges: dict[int, list[int]] = {}
    for child, parent in await session.execute(select(reached.c.deployment_id, reached.c.depends_on_id)):
        edges.setdefault(child, []).append(parent)
    return edges


async def names_of(session: AsyncSession, ids: Collection[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.execute(select(Deployment.id, Deployment.name).where(Deployment.id.in_(chunk)))
        found.update((id_, name) for id_, name in rows)
    return found


async def ids_in_organization(session: AsyncSession, organization_id: int, ids: Collection[int]) -> set[int]:
    """The ids of existing deployments of the organization."""
    query = select(Deployment.id).where(
        Deployment.organization_id == organization_id, Deployment.id.in_(sorted(ids))
    )
    return set(await session.scalars(query))


async def cluster_names(session: AsyncSession, ids: Collection[int]) -> dict[int, str]:
    rows = await session.execute(select(Cluster.id, Cluster.name).where(Cluster.id.in_(sorted(ids))))
    return {row.id: row.name for row in rows}


async def live_runs(session: AsyncSession, ids: Collection[int]) -> dict[int, list[Attempt]]:
    """The attempts of the current run of each live deployment, by replica, with those that have ended."""
    live = select(Attempt.deployment_id).where(Attempt.finished_at.is_(None))
    found: dict[int, list[Attempt]] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(
            select(Attempt)
            .join(Deployment, Deployment.id == Attempt.deployment_id)
            .where(
                Attempt.deployment_id.in_(chunk),
                Attempt.number == Deployment.attempts_made,
                Attempt.deployment_id.in_(live.where(Attempt.deployment_id.in_(chunk))),
            )
            .order_by(Attempt.replica)
        )
        for row in rows:
            found.setdefault(row.deployment_id, []).append(row)
    return found


async def attempts_page(
    session: AsyncSession, deployment_id: int, *, after: tuple[int, int], limit: int
) -> Sequence[Attempt]:
    """Attempts after (number, replica), oldest first."""
    query = (
        select(Attempt)
        .where(
            Attempt.deployment_id == deployment_id, tuple_(Attempt.number, Attempt.replica) > tuple_(*after)
        )
        .order_by(Attempt.number, Attempt.replica)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def find_attempt(
    session: AsyncSession, deployment_id: int, number: int | None, replica: int = 0
) -> Attempt | None:
    """The attempt with this number and replica; None: the last attempt of the replica."""
    query = select(Attempt).where(Attempt.deployment_id == deployment_id, Attempt.replica == replica)
    if number is not None:
        query = query.where(Attempt.number == number)
    return await session.scalar(query.order_by(Attempt.number.desc()).limit(1))


async def waiting_dependents(session: AsyncSession, deployment_id: int, limit: int) -> Mapping[int, str]:
    """Blocked and queued deployments that depend on this one: id -> name."""
    rows = await session.execute(
        select(Deployment.id, Deployment.name)
        .join(Dependency, Dependency.deployment_id == Deployment.id)
        .where(
            Dependency.depends_on_id == deployment_id,
            Deployment.state.in_([state.value for state in WAITING]),
        )
        .order_by(Deployment.id)
        .limit(limit)
    )
    return {row.id: row.name for row in rows}


async def insert_labels(session: WriteSession, deployments: Collection[Deployment]) -> None:
    """Write the label rows, which are copies for the filters of lists."""
    rows = [
        {"deployment_id": one.id, "key": key, "value": value}
        for one in deployments
        for key, value in (one.labels or {}).items()
    ]
    if rows:
        await session.execute(insert(DeploymentLabel), rows)


async def replace_labels(session: WriteSession, deployment: Deployment) -> None:
    await session.execute(
        delete(DeploymentLabel)
        .where(DeploymentLabel.deployment_id == deployment.id)
        .execution_options(synchronize_session=False)
    )
    await insert_labels(session, [deployment])


async def replace_dependencies(
    session: WriteSession, deployment_id: int, edges: Collection[tuple[int, str]]
) -> None:
    """Replace the dependencies by these: (parent id, condition)."""
    await session.execute(
        delete(Dependency)
        .where(Dependency.deployment_id == deployment_id)
        .execution_options(synchronize_session=False)
    )
    rows = [
        {"deployment_id": deployment_id, "depends_on_id": parent, "condition": condition}
        for parent, condition in edges
    ]
    if rows:
        await session.execute(insert(Dependency), rows)


async def drop_nominations(session: WriteSession, deployment_ids: Collection[int]) -> None:
    """Delete the nominations of these deployments, which reserve capacity for them."""
    for chunk in chunks(sorted(deployment_ids)):
        await session.execute(
            delete(NominationRow)
            .where(NominationRow.deployment_id.in_(chunk))
            .execution_options(synchronize_session=False)
        )


async def events_of_types(
    session: AsyncSession, deployment_id: int, types: Collection[str], limit: int
) -> Sequence[Event]:
    """The newest events of these types, newest first."""
    query = (
        select(Event)
        .where(Event.deployment_id == deployment_id, Event.type.in_(sorted(types)))
        .order_by(Event.id.desc())
        .limit(limit)
    )
    return (await session.scalars(query)).all()


def _as_written(row: Mapping[str, object]) -> Deployment:
    deployment = Deployment()
    # Without attribute assignments: each would be tracked as a change.
    instance_dict(deployment).update({**_EMPTY, **row})
    return deployment
