"""Traces by OpenTelemetry (W3C trace context). Without an endpoint every span is the library's no-op.

The trace context of a request is kept with the deployment that it submits, so that what the scheduler and
the reconciler do for it later, in whichever process, joins the trace of whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from hypervisor.errors import StartupError

TRACEPARENT_LENGTH = 55
_INSTRUMENTATION = "hypervisor"
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Tracing:
    """`provider` is None where nothing is exported. `close` sends what is left; it may take some seconds."""

    provider: trace.TracerProvider | None = None
    close: Callable[[], None] = lambda: None

    @property
    def tracer(self) -> trace.Tracer:
        return (self.provider or trace.NoOpTracerProvider()).get_tracer(_INSTRUMENTATION)


def open_tracing(endpoint: str | None) -> Tracing:
    """Export to the OTLP/HTTP collector at this base URL; None: nowhere.

    Raises StartupError when the optional packages are not installed.
    """
    if endpoint is None:
        return Tracing()
    try:
        # Costs tens of megabytes: loaded only where it is wanted.
        exporting = import_module("hypervisor.infra.observability.otlp")
    except ImportError:
        raise StartupError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages for it are missing: "
            "pip install 'mlops-hypervisor[telemetry]', or unset it"
        ) from None
    provider = exporting.exporting_provider(endpoint)
    return Tracing(provider, provider.shutdown)


def current_traceparent() -> str | None:
    """The trace context of the running request as a `traceparent` header would carry it, if it is traced."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context:
    """The context in which a span becomes a child of a stored `traceparent`; a root without one."""
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def record_span(
    tracer: trace.Tracer,
    name: str,
    traceparent: str | None,
    began: datetime,
    ended: datetime,
    attributes: dict[str, AttributeValue],
) -> None:
    """Record something that is already over as a child of a stored `traceparent`; nothing without one."""
    if traceparent is None:
        return
    span = tracer.start_span(
        name, context=context_of(traceparent), start_time=_nanoseconds(began), attributes=attributes
    )
    span.end(_nanoseconds(ended))


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
