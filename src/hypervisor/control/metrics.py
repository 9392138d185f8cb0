"""Gauges of the leases and engines of this server, and counters that start at zero."""

from __future__ import annotations

from collections import Counter

from hypervisor.control.leases.held import HeldLeases
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.scheduling.plan_result import PreemptionRule

LEASE_KINDS = ("cluster", "engine", "maintenance")


def initialize_counters(telemetry: Telemetry, engine_pool: EnginePool) -> None:
    """Expose the counters at zero: a rate misses the first step of a series that starts above zero."""
    for rule in PreemptionRule:
        telemetry.metrics.evictions.labels(rule.value)
    for runtime in engine_pool.runtimes:
        for kind in ("unavailable", "launch_failed"):
            telemetry.metrics.runtime_errors.labels(runtime, kind)


def measure_leases(telemetry: Telemetry, leases: HeldLeases, engine_pool: EnginePool) -> None:
    """Set the gauges of held leases and unreachable engines."""
    metrics = telemetry.metrics
    held = Counter(name.split(":")[0] for name in leases.epochs())
    for kind in LEASE_KINDS:
        metrics.leases_held.labels(kind).set(held[kind])
    unreachable = Counter(engine.runtime for engine in engine_pool.unreachable)
    for runtime in engine_pool.runtimes:
        metrics.engines_unreachable.labels(runtime).set(unreachable[runtime])
