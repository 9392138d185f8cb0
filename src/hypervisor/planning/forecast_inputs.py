"""The inputs of a forecast beside the snapshot: past runs, services without an end, durations of stops."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from hypervisor.scheduling.forecasting.start_estimate import ForecastInputs
from hypervisor.store.chunks import chunks
from hypervisor.store.database import ReadSession
from hypervisor.store.tables import IS_QUEUED, Attempt, Deployment

MOST_RUNS = 500
AMONG = 2000
"""The number of latest attempts on the cluster that are searched for runs."""
SEEN_WITHIN = 5.0
"""Seconds from an end to the start of the next deployment."""


@dataclass(frozen=True, slots=True)
class NamedRow:
    """A deployment as responses name it."""

    id: int
    name: str
    priority: int
    organization_id: int


async def load_forecast_inputs(
    session: ReadSession, cluster_id: int, organization_id: int, now: datetime
) -> ForecastInputs:
    """The inputs for one cluster, with the past runs of one organization's jobs on it."""
    services, stops = await _live(session, cluster_id, now)
    waiting = select(Deployment.id).where(
        Deployment.cluster_id == cluster_id,
        IS_QUEUED,
        Deployment.kind == "service",
    )
    services |= set(await session.scalars(waiting))
    runs = await _past_runs(session, cluster_id, organization_id)
    return ForecastInputs(runs, frozenset(services), stops)


async def load_named(session: ReadSession, ids: Collection[int]) -> dict[int, NamedRow]:
    """The names of these deployments, except deleted ones."""
    found: dict[int, NamedRow] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.execute(
            select(Deployment.id, Deployment.name, Deployment.priority, Deployment.organization_id).where(
                Deployment.id.in_(chunk)
            )
        )
        found.update((row.id, NamedRow(*row)) for row in rows)
    return found


async def _live(session: ReadSession, cluster_id: int, now: datetime) -> tuple[set[int], Mapping[int, float]]:
    rows = await session.execute(
        select(
            Deployment.id,
            Deployment.kind,
            Deployment.grace_period_seconds,
            Attempt.stop_requested_at,
            Attempt.stop_grace_seconds,
        )
        .join(Attempt, Attempt.deployment_id == Deployment.id)
        .where(Deployment.cluster_id == cluster_id, Attempt.finished_at.is_(None))
    )
    services, stops = set(), {}
    for row in rows:
        if row.kind == "service":
            services.add(row.id)
        left = timedelta(seconds=row.grace_period_seconds)
        if row.stop_requested_at is not None:
            left = row.stop_requested_at + timedelta(seconds=row.stop_grace_seconds or 0) - now
        stops[row.id] = max(0.0, left.total_seconds()) + SEEN_WITHIN
    return services, stops


async def _past_runs(session: ReadSession, cluster_id: int, organization_id: int) -> tuple[float, ...]:
    """Durations in seconds of the latest jobs that ended by themselves, ascending."""
    # Two queries, each by one index: as one query the database may join all attempts of the history.
    latest = select(Attempt.id).where(Attempt.cluster_id == cluster_id).order_by(Attempt.id.desc())
    ids = list(await session.scalars(latest.limit(AMONG)))
    rows = await session.execute(
        select(Attempt.started_at, Attempt.finished_at)
        .join(Deployment, Deployment.id == Attempt.deployment_id)
        .where(
            Attempt.id.in_(ids),
            Attempt.organization_id == organization_id,
            Attempt.started_at.is_not(None),
            Attempt.finished_at.is_not(None),
            Attempt.outcome.in_(("succeeded", "failed")),
            Deployment.kind == "job",
        )
        .order_by(Attempt.id.desc())
        .limit(MOST_RUNS)
    )
    return tuple(sorted((end - start).total_seconds() for start, end in rows if start and end))
