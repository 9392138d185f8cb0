"""Metrics of passes and commits: counts, durations, and the span of each placement."""

from __future__ import annotations

from datetime import datetime

from opentelemetry.util.types import AttributeValue

from hypervisor.control.scheduler.commit import Committed
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.observability.tracing import record_span
from hypervisor.kernel.priority import priority_class


def measure_cycle(telemetry: Telemetry, now: datetime) -> None:
    """Record the end of one pass over all held clusters."""
    telemetry.heartbeats.beat("scheduler")
    telemetry.metrics.last_pass.set(now.timestamp())


def measure_commit(
    telemetry: Telemetry, cluster_id: int, committed: Committed, began: datetime, ended: datetime
) -> None:
    """Count the results of a commit, and add a span to the submitter's trace of each placed deployment."""
    metrics = telemetry.metrics
    metrics.conflicts.inc(len(committed.rejected))
    for rule in committed.evicted_by:
        metrics.evictions.labels(rule.value).inc()
    for deployment in committed.placed:
        waited = ended - (deployment.queued_at or deployment.created_at)
        labels = (str(cluster_id), priority_class(deployment.priority))
        metrics.queue_wait.labels(*labels).observe(max(0.0, waited.total_seconds()))
        attributes: dict[str, AttributeValue] = {"deployment.id": deployment.id, "cluster.id": cluster_id}
        record_span(telemetry.tracer, "schedule", deployment.traceparent, began, ended, attributes)
