"""Export of spans to an OTLP/HTTP collector. Needs the extra `telemetry`; only `tracing` imports it."""

from __future__ import annotations

import os
import socket

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from hypervisor import __version__

SEND_EVERY_MILLIS = 1000
GIVE_UP_SECONDS = 3
"""An unreachable collector must not delay the shutdown of the server."""


def exporting_provider(endpoint: str) -> TracerProvider:
    """A provider that exports in the background.

    Sampling, headers and service name follow the standard `OTEL_*` variables.
    """
    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "mlops-hypervisor"),
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=GIVE_UP_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MILLIS))
    return provider
