"""Metrics, tracer and heartbeats of one server in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.trace import Tracer

from hypervisor.infra.observability.heartbeats import Heartbeats
from hypervisor.infra.observability.metrics import Metrics
from hypervisor.infra.observability.tracing import Tracing
from hypervisor.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Created once per server, or by default for loops that run alone. Nothing here is global."""

    heartbeats: Heartbeats
    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = field(default_factory=lambda: Tracing().tracer)
    before_scrape: list[Callable[[], None]] = field(default_factory=list)
    """Called on the event loop before each scrape, to set gauges that are cheap to read."""

    @classmethod
    def silent(cls, clock: Clock) -> Telemetry:
        """Telemetry that counts but exports nothing."""
        return cls(Heartbeats(clock))
