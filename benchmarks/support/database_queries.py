"""The database queries of the control loops, the metrics and the admin pages, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from starlette.requests import Request
from starlette_admin import RequestAction

from benchmarks.support.long_history import History
from hypervisor.admin.views import DeploymentView, EventView
from hypervisor.api.state_metrics import StateMetrics
from hypervisor.control.leases.engine_registry import find_engines
from hypervisor.control.maintenance.deletions import has_pending_deletions
from hypervisor.control.maintenance.retention import RetentionPolicy, delete_expired_rows
from hypervisor.control.reconciler.gangs import late_gangs
from hypervisor.control.reconciler.live_attempts import all_live_instances, load_live, pending_instances
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.deployments.access.repository import newest_by_name, waiting_dependents
from hypervisor.deployments.queue.positions import queue_positions
from hypervisor.deployments.state.dependencies import load_parents
from hypervisor.infra.clock import SystemClock
from hypervisor.organizations.repository import count_running
from hypervisor.planning.forecast_inputs import load_forecast_inputs
from hypervisor.planning.queue_page import read_page
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.tables import Attempt, Deployment, Event

Query = Callable[[Database], Awaitable[Any]]


def database_queries(history: History) -> Mapping[str, Query]:
    """The queries by name. Each runs in a new session."""
    now = datetime.now(UTC)
    middle = history.first + 500
    return {
        "scheduler: snapshot": _read(lambda session: load_cluster(session, history.cluster, now)),
        "forecast: inputs": _read(
            lambda session: load_forecast_inputs(session, history.retired, history.quiet, now)
        ),
        "reconciler: pending instances": _read(pending_instances),
        "reconciler: live instances": _read(all_live_instances),
        "reconciler: live attempts": _read(_load_live),
        "reconciler: late gangs": _read(lambda session: late_gangs(session, now)),
        "leases: engines": _read(find_engines),
        "maintenance: deletions": _read(has_pending_deletions),
        "maintenance: retention": lambda database: delete_expired_rows(
            database, RetentionPolicy(events=timedelta(days=400)), now
        ),
        "metrics": lambda database: StateMetrics(database, SystemClock()).refresh(),
        "submit: names": _read(lambda session: newest_by_name(session, history.busy, ["nightly", "job-3"])),
        "submit: parents": _read(lambda session: load_parents(session, range(middle, middle + 200))),
        "delete: dependents": _read(lambda session: waiting_dependents(session, middle, 10)),
        "delete: running deployments": _read(lambda session: count_running(session, history.busy)),
        "queue: positions": _read(_positions),
        "queue: a page in the middle": _read(lambda session: _page(session, history.cluster, now)),
        "admin: deployments": _admin(DeploymentView(Deployment), "created_at"),
        "admin: events": _admin(EventView(Event), "at"),
    }


def _read(query: Callable[[ReadSession], Awaitable[Any]]) -> Query:
    async def run(database: Database) -> None:
        async with database.read() as session:
            await query(session)

    return run


async def _load_live(session: ReadSession) -> None:
    live = select(Attempt.instance).where(Attempt.finished_at.is_(None)).limit(200)
    await load_live(session, list(await session.scalars(live)))


async def _positions(session: ReadSession) -> None:
    queued = select(Deployment).where(Deployment.state == "QUEUED").limit(50)
    waiting = list(await session.scalars(queued))
    await queue_positions(session, waiting[:1])
    await queue_positions(session, waiting)


async def _page(session: ReadSession, cluster_id: int, now: datetime) -> None:
    shown, _ = await read_page(session, cluster_id, now, None, 50)
    await read_page(session, cluster_id, now, shown[-1].key, 50)


def _admin(view: DeploymentView | EventView, by: str) -> Query:
    """The last page of a list that is sorted by time, and a search without a match."""

    async def query(session: ReadSession) -> None:
        state = {"session": session, "action": RequestAction.LIST}
        request = Request({"type": "http", "headers": [], "query_string": b"", "state": state})
        await view.count(request)
        await view.find_all(request, skip=9_900, limit=100, sorts=[(by, "asc")])
        await view.find_all(request, limit=100, q="no row has this name")

    return _read(query)
