"""Metrics from the database: queue, capacity, leases, and the lag of engines.

Every control-plane server returns the same values. Each value is read from an index and cached for some
seconds, so that several scrapers cost no more than one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import ScalarSelect, Select, func, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.priority import NAMED_PRIORITIES, priority_class
from hypervisor.lifecycle.states import State
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.leases import lease_time
from hypervisor.store.tables import (
    IS_QUEUED,
    Attempt,
    Cluster,
    Deployment,
    EngineState,
    Lease,
    LeaseEpoch,
    Node,
    NodeGpu,
    Server,
)

CACHE_SECONDS = 5.0
DATABASE_TIMEOUT_SECONDS = 3.0
"""A scrape must not hang with the database. After this time it reports the database as down."""
UNUSED_LEASE_AGE = timedelta(hours=1)
"""Age after which an expired engine lease is left out: no node uses the engine, but the row stays."""
LIVE_STATES = (State.BLOCKED, State.STARTING, State.RUNNING, State.STOPPING)

Families = list[GaugeMetricFamily]


class StateMetrics(Collector):
    """Call `refresh` before the metrics library collects."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._families: Families = []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families

    async def refresh(self) -> None:
        """Read the values again if they are too old. An unreachable database is a value, not an error."""
        async with self._lock:
            if self._clock.monotonic() - self._read_at < CACHE_SECONDS:
                return
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS), self._database.read() as session:
                    families = await _read_all(session, self._clock.now())
            except (SQLAlchemyError, OSError, TimeoutError):
                self._families = [_up(0)]
                return
            self._families = [_up(1), _read_seconds(self._clock.monotonic() - started), *families]
            self._read_at = self._clock.monotonic()


async def _read_all(session: ReadSession, now: datetime) -> Families:
    clusters = list(await session.scalars(select(Cluster.id).order_by(Cluster.id)))
    return [
        *await _queue(session, clusters, now),
        await _deployments(session),
        *await _resources(session),
        *await _leases(session, clusters, await lease_time(session, now)),
        await _lag(session, now),
        await _cordoned_engines(session),
    ]


def _up(value: float) -> GaugeMetricFamily:
    return _gauge("hypervisor_database_up", "1 if the database answered this scrape, else 0.", value)


def _read_seconds(seconds: float) -> GaugeMetricFamily:
    text = "Time that the database queries of this scrape took."
    return _gauge("hypervisor_database_read_seconds", text, seconds)


async def _queue(session: ReadSession, clusters: Sequence[int], now: datetime) -> Families:
    """Depth and wait of the head, for each cluster and priority class, zeros included."""
    depth: dict[tuple[int, str], int] = defaultdict(int)
    since: dict[tuple[int, str], datetime] = defaultdict(lambda: now)
    for cluster_id, priority, waiting, head in await session.execute(_queues_with_heads()):
        key = (cluster_id, priority_class(priority))
        depth[key] += waiting
        since[key] = min(since[key], head or now)
    labels = ("cluster", "priority")
    depths = GaugeMetricFamily("hypervisor_queue_depth", "Queued deployments.", labels=labels)
    text = "Time in the queue of the deployment that was submitted first."
    waits = GaugeMetricFamily("hypervisor_queue_head_wait_seconds", text, labels=labels)
    for cluster_id in clusters:
        for name in NAMED_PRIORITIES:
            key = (cluster_id, name)
            depths.add_metric([str(cluster_id), name], depth[key])
            waits.add_metric([str(cluster_id), name], (now - since[key]).total_seconds())
    return [depths, waits]


def _queues_with_heads() -> Select[int, int, int, datetime | None]:
    """Count on the index of the queue alone. Only the row of each head is read."""
    lengths = (
        select(Deployment.cluster_id, Deployment.priority, func.count().label("waiting"))
        .where(IS_QUEUED)
        .group_by(Deployment.cluster_id, Deployment.priority)
        .subquery()
    )
    head = (
        select(Deployment.queued_at)
        .where(
            IS_QUEUED,
            Deployment.cluster_id == lengths.c.cluster_id,
            Deployment.priority == lengths.c.priority,
        )
        .order_by(Deployment.created_at, Deployment.id)
        .limit(1)
        .scalar_subquery()
    )
    return select(lengths.c.cluster_id, lengths.c.priority, lengths.c.waiting, head)


async def _deployments(session: ReadSession) -> GaugeMetricFamily:
    """By state, without queued deployments (see `_queue`) and without ended ones (history only grows)."""
    text = "Deployments that are neither queued nor ended."
    family = GaugeMetricFamily("hypervisor_deployments", text, labels=("cluster", "state"))
    rows = await session.execute(select(Cluster.id, *(_in_state(state) for state in LIVE_STATES)))
    for cluster_id, *counts in rows:
        for state, count in zip(LIVE_STATES, counts, strict=True):
            family.add_metric([str(cluster_id), state.value], count)
    return family


def _in_state(state: State) -> ScalarSelect[int]:
    """A count for each cluster by its index. With a join the database may read all rows."""
    return (
        select(func.count())
        .where(Deployment.cluster_id == Cluster.id, Deployment.state == state.value)
        .correlate(Cluster)
        .scalar_subquery()
    )


async def _resources(session: ReadSession) -> Families:
    labels = ("cluster", "resource", "unit")
    text = "Capacity of the nodes of a cluster."
    capacity = GaugeMetricFamily("hypervisor_cluster_capacity", text, labels=labels)
    text = "Resources of the deployments that are placed there, until their end is observed."
    allocated = GaugeMetricFamily("hypervisor_cluster_allocated", text, labels=labels)
    gpu_use = await session.execute(
        select(Node.cluster_id, func.sum(NodeGpu.used_milli))
        .join(Node, Node.id == NodeGpu.node_id)
        .group_by(Node.cluster_id)
    )
    gpus = {row[0]: row[1] for row in gpu_use}
    rows = await session.execute(
        select(
            Node.cluster_id,
            func.sum(Node.cpu_milli),
            func.sum(Node.used_cpu_milli),
            func.sum(Node.ram_mib),
            func.sum(Node.used_ram_mib),
            func.sum(Node.gpu_count),
        ).group_by(Node.cluster_id)
    )
    for cluster_id, cpu, used_cpu, ram, used_ram, gpu_count in rows:
        by_resource = {
            ("cpu", "core"): (cpu / 1000, used_cpu / 1000),
            ("memory", "byte"): (ram * 2**20, used_ram * 2**20),
            ("gpu", "device"): (gpu_count, gpus.get(cluster_id, 0) / 1000),
        }
        for resource, (total, used) in by_resource.items():
            capacity.add_metric([str(cluster_id), *resource], float(total))
            allocated.add_metric([str(cluster_id), *resource], float(used))
    return [capacity, allocated]


async def _leases(session: ReadSession, clusters: Sequence[int], now: datetime) -> Families:
    """Live servers and leases, by the clock of the leases. Leases of deleted clusters are left out."""
    alive = await session.scalar(select(func.count()).select_from(Server).where(Server.expires_at > now))
    text = "Live control-plane servers with control loops."
    servers = _gauge("hypervisor_servers", text, alive or 0)
    cluster_leases = {f"cluster:{cluster_id}" for cluster_id in clusters}
    text = "Epoch of the lease: rises with each change of its holder."
    epochs = GaugeMetricFamily("hypervisor_lease_epoch", text, labels=("lease",))
    text = "Time until the lease expires without a renewal. Negative while no server holds it."
    remaining = GaugeMetricFamily("hypervisor_lease_remaining_seconds", text, labels=("lease",))
    rows = await session.execute(
        select(LeaseEpoch.name, LeaseEpoch.epoch, Lease.expires_at)
        .join(Lease, Lease.name == LeaseEpoch.name)
        .order_by(LeaseEpoch.name)
    )
    for name, epoch, expires_at in rows:
        if name not in cluster_leases and (
            name.startswith("cluster:") or expires_at < now - UNUSED_LEASE_AGE
        ):
            continue
        epochs.add_metric([name], epoch)
        remaining.add_metric([name], (expires_at - now).total_seconds())
    return [servers, epochs, remaining]


async def _lag(session: ReadSession, now: datetime) -> GaugeMetricFamily:
    """How far the engines are behind the committed state."""
    text = "Age of the oldest committed start that is not running yet, and delay of the oldest overdue stop."
    lag = GaugeMetricFamily("hypervisor_reconcile_lag_seconds", text, labels=("operation",))
    placed = await session.scalar(
        select(func.min(Attempt.created_at)).where(
            Attempt.finished_at.is_(None), Attempt.started_at.is_(None), Attempt.stop_requested_at.is_(None)
        )
    )
    rows = await session.execute(
        select(Attempt.stop_requested_at, Attempt.stop_grace_seconds).where(
            Attempt.finished_at.is_(None), Attempt.stop_requested_at.is_not(None)
        )
    )
    due = [requested + timedelta(seconds=grace or 0) for requested, grace in rows if requested is not None]
    lag.add_metric(["start"], (now - placed).total_seconds() if placed is not None else 0.0)
    lag.add_metric(["stop"], max((now - min(due, default=now)).total_seconds(), 0.0))
    return lag


async def _cordoned_engines(session: ReadSession) -> GaugeMetricFamily:
    """Engines that no live server reaches, so that no server reports them as its own."""
    text = "Cordoned engines of nodes: no live server reaches them."
    family = GaugeMetricFamily("hypervisor_engines_cordoned", text, labels=("runtime",))
    of_nodes = select(Cluster.resolved_runtime, func.coalesce(Node.engine_endpoint, "")).join(
        Node, Node.cluster_id == Cluster.id
    )
    rows = await session.execute(
        select(EngineState.runtime, func.count())
        .where(
            EngineState.cordoned_since.is_not(None),
            tuple_(EngineState.runtime, func.coalesce(EngineState.endpoint, "")).in_(of_nodes),
        )
        .group_by(EngineState.runtime)
    )
    cordoned = {row[0]: row[1] for row in rows}
    for runtime in sorted(await session.scalars(select(Cluster.resolved_runtime).distinct())):
        family.add_metric([runtime], cordoned.get(runtime, 0))
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
