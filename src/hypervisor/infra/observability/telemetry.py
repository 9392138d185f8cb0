"""What the service tells about itself, in one object: metrics, traces and the heartbeats of its loops."""

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
    """Made once per server, or by default for loops that run alone; nothing of it is global."""

    heartbeats: Heartbeats
    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = field(default_factory=lambda: Tracing().tracer)
    before_scrape: list[Callable[[], None]] = field(default_factory=list)
    """Called on the event loop before the metrics are read, to set those that only need a look."""

    @classmethod
    def silent(cls, clock: Clock) -> Telemetry:
        """Counts, but nobody reads it and nothing is exported."""
        return cls(Heartbeats(clock))
