"""What one process counts and times, in a registry of its own: two servers in one process do not mix.

Labels never hold a name that people gave: clusters are ids, routes are templates. What all processes share
(queue, capacity, leases) is read from the database when it is asked for, by `control.state_metrics`.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# A time of creation beside every counter would nearly double the answer, and nothing here reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Buckets in seconds for what people wait for: requests, passes."""
SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""Buckets in seconds for what engines do."""
WAITS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Buckets in seconds for waits in the queue."""


class Metrics:
    """Every metric that is counted in the process; docs/operations.md lists names and labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests()
        self._scheduler()
        self._reconciler()

    def _requests(self) -> None:
        self.http_requests = self._counter(
            "hypervisor_http_requests", "HTTP requests answered.", "method", "route", "status"
        )
        self.http_seconds = self._histogram(
            "hypervisor_http_request_seconds",
            "From the request until its answer begins.",
            FAST,
            "method",
            "route",
        )
        self.http_in_progress = self._gauge(
            "hypervisor_http_requests_in_progress", "HTTP requests being served, open streams included."
        )
        self.ready = self._gauge("hypervisor_ready", "1 if this check of /readyz is passed, else 0.", "check")
        self.event_streams = self._gauge("hypervisor_event_streams", "Open streams of events.")

    def _scheduler(self) -> None:
        self.passes = self._histogram(
            "hypervisor_scheduler_pass_seconds",
            "One pass over one cluster: snapshot, plan, commit, with its repetitions after conflicts.",
            FAST,
        )
        self.last_pass = self._gauge(
            "hypervisor_scheduler_last_pass_timestamp_seconds",
            "When this process last finished a round over its clusters; 0 before the first.",
        )
        self.pass_failures = self._counter(
            "hypervisor_scheduler_failures", "Rounds that ended in an error and were begun again."
        )
        self.conflicts = self._counter(
            "hypervisor_scheduler_conflicts",
            "Deployments whose part of a plan was rejected because something had changed since the snapshot.",
        )
        self.stale_epochs = self._counter(
            "hypervisor_scheduler_stale_epochs", "Commits refused because another scheduler had taken over."
        )
        self.queue_wait = self._histogram(
            "hypervisor_queue_wait_seconds",
            "From entering the queue until a place was committed.",
            WAITS,
            "cluster",
            "priority",
        )
        self.evictions = self._counter(
            "hypervisor_evictions", "Deployments asked to give way, by the rule that chose them.", "rule"
        )
        self.leases_held = self._gauge(
            "hypervisor_leases_held",
            "Leases of clusters, engines and maintenance held by this process.",
            "kind",
        )

    def _reconciler(self) -> None:
        self.reconcile_seconds = self._histogram(
            "hypervisor_reconcile_seconds",
            "From the commit of a start or stop until the engine confirmed the call.",
            SLOW,
            "operation",
            "runtime",
        )
        self.runtime_errors = self._counter(
            "hypervisor_runtime_errors",
            "Calls to an engine that failed: unavailable (says nothing about the work) or launch_failed.",
            "runtime",
            "kind",
        )
        self.engines_unreachable = self._gauge(
            "hypervisor_engines_unreachable", "Engines driven here that take nothing new.", "runtime"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
