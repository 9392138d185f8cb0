"""Counters and timers of one server, in a separate registry: two servers in one process do not mix.

Labels never hold names that users choose: clusters are ids, routes are templates. Shared state (queue,
capacity, leases) is read from the database at each scrape, by `api.state_metrics`.
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

# A creation time beside every counter would nearly double the response, and nothing here reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Buckets in seconds for requests and passes."""
SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""Buckets in seconds for engine calls."""
WAITS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Buckets in seconds for waits in the queue."""


class Metrics:
    """Every metric that this process counts. docs/operations.md lists names and labels."""

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
            "Time from the request until its response begins.",
            FAST,
            "method",
            "route",
        )
        self.http_in_progress = self._gauge(
            "hypervisor_http_requests_in_progress", "HTTP requests being served, open streams included."
        )
        self.ready = self._gauge("hypervisor_ready", "1 if this check of /readyz passes, else 0.", "check")
        self.event_streams = self._gauge("hypervisor_event_streams", "Open event streams.")

    def _scheduler(self) -> None:
        self.passes = self._histogram(
            "hypervisor_scheduler_pass_seconds",
            "One pass over one cluster: snapshot, plan, commit, with repetitions after conflicts.",
            FAST,
        )
        self.last_pass = self._gauge(
            "hypervisor_scheduler_last_pass_timestamp_seconds",
            "Time at which this process last finished a round over its clusters; 0 before the first.",
        )
        self.pass_failures = self._counter(
            "hypervisor_scheduler_failures", "Rounds that ended in an error and were repeated."
        )
        self.conflicts = self._counter(
            "hypervisor_scheduler_conflicts",
            "Deployments whose part of a plan was rejected because of a change since the snapshot.",
        )
        self.stale_epochs = self._counter(
            "hypervisor_scheduler_stale_epochs", "Commits refused because another scheduler holds the lease."
        )
        self.queue_wait = self._histogram(
            "hypervisor_queue_wait_seconds",
            "Time from entering the queue until a placement was committed.",
            WAITS,
            "cluster",
            "priority",
        )
        self.evictions = self._counter(
            "hypervisor_evictions", "Evicted deployments, by the rule that selected them.", "rule"
        )
        self.leases_held = self._gauge(
            "hypervisor_leases_held",
            "Leases of clusters, engines and maintenance that this process holds.",
            "kind",
        )

    def _reconciler(self) -> None:
        self.reconcile_seconds = self._histogram(
            "hypervisor_reconcile_seconds",
            "Time from the commit of a start or stop until the engine confirmed the call.",
            SLOW,
            "operation",
            "runtime",
        )
        self.runtime_errors = self._counter(
            "hypervisor_runtime_errors",
            "Failed engine calls: unavailable (the state of the workload is unknown) or launch_failed.",
            "runtime",
            "kind",
        )
        self.engines_unreachable = self._gauge(
            "hypervisor_engines_unreachable",
            "Engines of this process that accept no new workloads.",
            "runtime",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
