"""What this process holds and reaches, and counters that start at zero."""

from __future__ import annotations

from collections import Counter

from hypervisor.control.leases.held import HeldLeases
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.scheduling.plan_result import PreemptionRule

LEASE_KINDS = ("cluster", "engine", "janitor")


def measure_from_zero(telemetry: Telemetry, engines: EnginePool) -> None:
    """Show the counters before they count: a rate sees no first step of what appears with it."""
    for rule in PreemptionRule:
        telemetry.metrics.evictions.labels(rule.value)
    for runtime in engines.runtimes:
        for kind in ("unavailable", "launch_failed"):
            telemetry.metrics.runtime_errors.labels(runtime, kind)


def measure_held(telemetry: Telemetry, holdings: HeldLeases, engines: EnginePool) -> None:
    """What this process holds and cannot reach, as it is now."""
    metrics = telemetry.metrics
    held = Counter(name.split(":")[0] for name in holdings.epochs())
    for kind in LEASE_KINDS:
        metrics.leases_held.labels(kind).set(held[kind])
    unreachable = Counter(engine.runtime for engine in engines.unreachable)
    for runtime in engines.runtimes:
        metrics.engines_unreachable.labels(runtime).set(unreachable[runtime])
