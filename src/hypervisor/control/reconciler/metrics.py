"""Starts and stops: how long engines take, what fails, and the span of each start."""

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
def measured_start(telemetry: Telemetry, work: LiveAttempt) -> Iterator[None]:
    """Around the call that starts an attempt: a span in the trace of whoever submitted it."""
    attributes: dict[str, AttributeValue] = {
        "deployment.id": work.deployment_id,
        "attempt.instance": work.instance,
        "node.name": work.node_name,
        "runtime": work.engine.runtime,
    }
    with telemetry.tracer.start_as_current_span(
        "start",
        context=parent_context(work.traceparent),
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
                telemetry.metrics.runtime_errors.labels(work.engine.runtime, "launch_failed").inc()
            raise


def measure_reconciled(
    telemetry: Telemetry, work: LiveAttempt, operation: str, asked: datetime, now: datetime
) -> None:
    """An engine has confirmed a start or a stop that was committed at `asked`."""
    took = max(0.0, (now - asked).total_seconds())
    telemetry.metrics.reconcile_seconds.labels(operation, work.engine.runtime).observe(took)
