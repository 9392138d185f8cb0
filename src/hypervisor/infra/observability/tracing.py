"""Traces with OpenTelemetry (W3C trace context). Without an endpoint every span is the library's no-op.

The trace context of a submit is stored with its deployment. Later spans of scheduler and reconciler, in any
process, join that trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from hypervisor.errors import StartupError

TRACEPARENT_LENGTH = 55
MISSING_PACKAGES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but its packages are not installed",
    "run pip install 'mlops-hypervisor[telemetry]', or unset it",
)
"""What is wrong without the extra `telemetry`, and what to do."""
_INSTRUMENTATION = "hypervisor"
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Tracing:
    """`provider` is None if nothing is exported. `close` flushes pending spans; it may take some seconds."""

    provider: trace.TracerProvider | None = None
    close: Callable[[], None] = lambda: None

    @property
    def tracer(self) -> trace.Tracer:
        return (self.provider or trace.NoOpTracerProvider()).get_tracer(_INSTRUMENTATION)


def open_tracing(endpoint: str | None) -> Tracing:
    """Export to the OTLP/HTTP collector at this base URL; None exports nothing.

    Raises StartupError when the optional packages are not installed.
    """
    if endpoint is None:
        return Tracing()
    try:
        # Imported only if configured: it costs tens of megabytes.
        exporting = import_module("hypervisor.infra.observability.otlp")
    except ImportError:
        raise StartupError("; ".join(MISSING_PACKAGES)) from None
    provider = exporting.exporting_provider(endpoint)
    return Tracing(provider, provider.shutdown)


def can_export() -> bool:
    """Whether the packages of the extra `telemetry` are installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ImportError:
        return False


def current_traceparent() -> str | None:
    """The trace context of the current request as a `traceparent` header value; None if it is not traced."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def parent_context(traceparent: str | None) -> Context:
    """The context that makes a span a child of a stored `traceparent`; None makes it a root span."""
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def record_span(
    tracer: trace.Tracer,
    name: str,
    traceparent: str | None,
    began: datetime,
    ended: datetime,
    attributes: dict[str, AttributeValue],
) -> None:
    """Record a finished operation as a child span of a stored `traceparent`; without one, do nothing."""
    if traceparent is None:
        return
    span = tracer.start_span(
        name, context=parent_context(traceparent), start_time=_nanoseconds(began), attributes=attributes
    )
    span.end(_nanoseconds(ended))


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
