"""Metrics of starts and stops: durations, failures, and the span of each start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from hypervisor.control.reconciler.live_attempts import LiveAttempt
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.observability.tracing import parent_context
from hypervisor.runtimes.protocol import LaunchFailed


@contextmanager
def measured_start(telemetry: Telemetry, attempt: LiveAttempt) -> Iterator[None]:
    """Wrap the call that starts an attempt in a span of the submitter's trace."""
    attributes: dict[str, AttributeValue] = {
        "deployment.id": attempt.deployment_id,
        "attempt.instance": attempt.instance,
        "node.name": attempt.node_name,
        "runtime": attempt.engine.runtime,
    }
    with telemetry.tracer.start_as_current_span(
        "start",
        context=parent_context(attempt.traceparent),
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            # The message is stored in the attempt; it may contain data that only the organization may read.
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            if isinstance(error, LaunchFailed):
                telemetry.metrics.runtime_errors.labels(attempt.engine.runtime, "launch_failed").inc()
            raise


def measure_reconciled(
    telemetry: Telemetry, attempt: LiveAttempt, operation: str, requested_at: datetime, now: datetime
) -> None:
    """Record that an engine confirmed a start or stop that was committed at `requested_at`."""
    elapsed = max(0.0, (now - requested_at).total_seconds())
    telemetry.metrics.reconcile_seconds.labels(operation, attempt.engine.runtime).observe(elapsed)
