"""Lists of deployments, newest first: a page costs the same however long the history is.

Ids rise with time, and every index for lists ends with the id. So the newest deployments of one organization
in one state are at the end of one index range, and several states are merged from several ends. Conditions
that no single index covers (a name and a state) are tested along the best index: after `STEPS` a page ends
with the rows found so far, and its cursor continues there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, and_, func, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.access.repository import find_all
from hypervisor.lifecycle.states import State
from hypervisor.store.tables import Deployment, DeploymentLabel, Organization

STEPS = (200, 1000)
"""How many deployments are tested for one page, in turns, where no index has all conditions."""
MOST_RANGES = 36
"""The maximum number of merged ranges: all states of four organizations."""

Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a list. `organization_ids` None means all; `labels` are (key, value or None for any)."""

    organization_ids: Collection[int] | None
    cluster_id: int | None = None
    states: Collection[State] = ()
    priority: int | None = None
    labels: Sequence[tuple[str, str | None]] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentPage:
    """One page; the list continues below the id `next_before`, None at its end."""

    rows: list[Deployment]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class _Scan:
    """The index ranges to scan from their ends, and the conditions that the index does not have."""

    ranges: list[list[Condition]]
    rest: list[Condition]
    column: SQLColumnExpression[int] = Deployment.id


async def page(session: AsyncSession, filters: Filters, *, before: int | None, limit: int) -> DeploymentPage:
    """Deployments that match, newest first, with ids below `before`.

    A page with fewer than `limit` rows is not always the last one: see `next_before`.
    """
    scan = _choose(await _with_organizations(session, filters))
    if not scan.ranges:
        return DeploymentPage([], None)
    if not scan.rest:
        ids = list(await session.scalars(_newest(scan, before, limit + 1)))
        return DeploymentPage(
            await find_all(session, ids[:limit]), ids[limit - 1] if len(ids) > limit else None
        )
    found: list[int] = []
    for step in STEPS:
        before, matching = await _test_next(session, scan, before, step, limit + 1 - len(found))
        found += matching
        if before is None or len(found) > limit:
            break
    return DeploymentPage(
        await find_all(session, found[:limit]), found[limit - 1] if len(found) > limit else before
    )


async def _with_organizations(session: AsyncSession, filters: Filters) -> Filters:
    """All organizations by id for a list without that filter, unless there are too many."""
    if filters.organization_ids is not None:
        return filters
    every = list(await session.scalars(select(Organization.id).limit(MOST_RANGES + 1)))
    return replace(filters, organization_ids=every) if len(every) <= MOST_RANGES else filters


def _choose(filters: Filters) -> _Scan:
    """The scan with the fewest rows: labels and names are rarer than clusters, and clusters than states."""
    label = next((one for one in filters.labels if one[1] is not None), None)
    if label is not None:
        others = replace(filters, labels=[one for one in filters.labels if one != label])
        pair = [DeploymentLabel.key == label[0], DeploymentLabel.value == label[1]]
        return _Scan([pair], _conditions(others), DeploymentLabel.deployment_id)
    organizations, states = filters.organization_ids, filters.states or tuple(State)
    index: dict[str, Collection[Any]] = {}
    left = filters
    if organizations is not None and filters.name is not None:
        index = {"organization_id": organizations, "name": [filters.name]}
        left = replace(filters, organization_ids=None, name=None)
    elif filters.cluster_id is not None:
        index = {"cluster_id": [filters.cluster_id], "state": states}
        left = replace(filters, cluster_id=None, states=())
    elif organizations is not None and filters.priority is not None:
        index = {"organization_id": organizations, "state": states, "priority": [filters.priority]}
        left = replace(filters, organization_ids=None, states=(), priority=None)
    elif organizations is not None and filters.states:
        index = {"organization_id": organizations, "state": states}
        left = replace(filters, organization_ids=None, states=())
    elif organizations is not None:
        index = {"organization_id": organizations}
        left = replace(filters, organization_ids=None)
    ranges = _ranges(index)
    if len(ranges) > MOST_RANGES:
        return _Scan([[]], _conditions(filters))
    return _Scan(ranges, _conditions(left))


def _ranges(index: Mapping[str, Collection[Any]]) -> list[list[Condition]]:
    """One range for each combination of values of the index's first columns."""
    columns = [getattr(Deployment, name) for name in index]
    return [
        [column == value for column, value in zip(columns, values, strict=True)]
        for values in product(*index.values())
    ]


def _newest(scan: _Scan, before: int | None, limit: int) -> Select[int]:
    """The highest ids of all ranges together. Only ids, so that the index alone is read: for whole rows the
    database may prefer to scan the table in the order of the ids.
    """
    below = [] if before is None else [scan.column < before]
    ends: list[Select[int]] = [
        select(scan.column.label("id")).where(*one, *below).order_by(scan.column.desc()).limit(limit)
        for one in scan.ranges
    ]
    if len(ends) == 1:
        return ends[0]
    merged = union_all(*(select(end.subquery().c.id) for end in ends)).subquery()
    return select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)


async def _test_next(
    session: AsyncSession, scan: _Scan, before: int | None, step: int, limit: int
) -> tuple[int | None, list[int]]:
    """Test the next `step` ids: where to continue (None at the end), and the first `limit` matches."""
    newest = _newest(scan, before, step).subquery()
    # A subquery for each row, not a join: a join might read all deployments first.
    matches = select(and_(*scan.rest)).where(Deployment.id == newest.c.id).scalar_subquery()
    passed = select(newest.c.id, matches.label("matches")).cte("passed")
    ends = select(func.min(passed.c.id).label("lowest"), func.count().label("seen")).select_from(passed)
    found = select(passed.c.id).where(passed.c.matches).order_by(passed.c.id.desc()).limit(limit)
    end, match = ends.subquery(), found.subquery()
    both = select(end.c.lowest, end.c.seen, match.c.id).join_from(end, match, true(), isouter=True)
    rows = (await session.execute(both)).all()
    ids = sorted((row.id for row in rows if row.id is not None), reverse=True)
    return rows[0].lowest if rows[0].seen == step else None, ids


def _conditions(filters: Filters) -> list[Condition]:
    found: list[Condition] = []
    if filters.organization_ids is not None:
        found.append(Deployment.organization_id.in_(sorted(filters.organization_ids)))
    if filters.cluster_id is not None:
        found.append(Deployment.cluster_id == filters.cluster_id)
    if filters.states:
        found.append(Deployment.state.in_(sorted(state.value for state in filters.states)))
    if filters.priority is not None:
        found.append(Deployment.priority == filters.priority)
    if filters.name is not None:
        found.append(Deployment.name == filters.name)
    found += [_has_label(key, value) for key, value in filters.labels]
    return found


def _has_label(key: str, value: str | None) -> Condition:
    """A subquery for each deployment: a join might read all deployments with the label."""
    own = (
        select(DeploymentLabel.value)
        .where(DeploymentLabel.deployment_id == Deployment.id, DeploymentLabel.key == key)
        .scalar_subquery()
    )
    return own.is_not(None) if value is None else own == value
