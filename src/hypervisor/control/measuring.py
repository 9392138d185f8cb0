"""What the loops tell about their work: counts and times for the metrics, spans for the traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from hypervisor.control.commit import Committed
from hypervisor.control.engines import Engines
from hypervisor.control.holdings import Holdings
from hypervisor.control.work import LiveAttempt
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.observability.tracing import context_of, record_span
from hypervisor.kernel.priority import priority_class
from hypervisor.runtimes.protocol import LaunchFailed
from hypervisor.scheduling.plan_result import PreemptionRule

LEASE_KINDS = ("cluster", "engine", "janitor")


def measure_from_zero(telemetry: Telemetry, engines: Engines) -> None:
    """Show the counters before they count: a rate sees no first step of what appears with it."""
    for rule in PreemptionRule:
        telemetry.metrics.evictions.labels(rule.value)
    for runtime in engines.runtimes:
        for kind in ("unavailable", "launch_failed"):
            telemetry.metrics.runtime_errors.labels(runtime, kind)


def measure_held(telemetry: Telemetry, holdings: Holdings, engines: Engines) -> None:
    """What this process holds and cannot reach, as it is now."""
    metrics = telemetry.metrics
    held = Counter(name.split(":")[0] for name in holdings.epochs())
    for kind in LEASE_KINDS:
        metrics.leases_held.labels(kind).set(held[kind])
    unreachable = Counter(runtime for runtime, _ in engines.unreachable)
    for runtime in engines.runtimes:
        metrics.engines_unreachable.labels(runtime).set(unreachable[runtime])


def measure_round(telemetry: Telemetry, now: datetime) -> None:
    """The scheduler has been over all clusters that it holds."""
    telemetry.heartbeats.beat("scheduler")
    telemetry.metrics.last_pass.set(now.timestamp())


def measure_commit(
    telemetry: Telemetry, cluster_id: int, committed: Committed, began: datetime, ended: datetime
) -> None:
    """Count what a commit made true, and add it to the traces of those who asked for what was placed."""
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


@contextmanager
def measured_start(telemetry: Telemetry, work: LiveAttempt) -> Iterator[None]:
    """Around the call that starts an attempt: a span in the trace of whoever submitted it."""
    attributes: dict[str, AttributeValue] = {
        "deployment.id": work.deployment_id,
        "attempt.instance": work.instance,
        "node.name": work.node_name,
        "runtime": work.engine[0],
    }
    with telemetry.tracer.start_as_current_span(
        "start",
        context=context_of(work.traceparent),
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            # Its text is in the attempt; it may quote what only the organization may read.
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            if isinstance(error, LaunchFailed):
                telemetry.metrics.runtime_errors.labels(work.engine[0], "launch_failed").inc()
            raise


def measure_reconciled(
    telemetry: Telemetry, work: LiveAttempt, operation: str, asked: datetime, now: datetime
) -> None:
    """An engine has confirmed a start or a stop that was committed at `asked`."""
    took = max(0.0, (now - asked).total_seconds())
    telemetry.metrics.reconcile_seconds.labels(operation, work.engine[0]).observe(took)
