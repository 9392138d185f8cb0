"""The simulation engine: it processes arrivals and ends in virtual time and calls `plan()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Eviction, Placement
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import NodeTable, Nomination, Snapshot
from hypervisor.simulation.admission import AdmissionCheck
from hypervisor.simulation.cluster import Cluster
from hypervisor.simulation.cluster_load import ClusterLoad
from hypervisor.simulation.errors import SimulationError
from hypervisor.simulation.event_queue import EventKind, EventQueue
from hypervisor.simulation.jobs import Attempt, Job, JobRecord, Rejection, ReplicaPlacement, Split
from hypervisor.simulation.observer import Observer
from hypervisor.simulation.pending_queue import EquivalenceClass, PendingQueue, equivalence_class
from hypervisor.simulation.protection import Protection
from hypervisor.simulation.quotas import OrganizationQuotas, QuotaTerms
from hypervisor.simulation.readers.workload import Workload

Progress = Callable[[int, float], None]
"""A callback with the number of arrived jobs and the virtual time in seconds."""

_ARRIVALS_PER_PROGRESS = 256


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters of a simulation, besides the workload and the nodes.

    `grace` is the number of seconds that a victim holds its capacity after the eviction. The run ends at
    `until` (seconds), or when there are no more events. `plan_every_event` calls `plan()` at every event,
    even if it cannot change anything; the result is the same. With `quotas` organizations share the cluster.
    `protection` limits early and repeated evictions.
    """

    policy: Policy = field(default_factory=Policy)
    grace: float = 0.0
    until: float = inf
    plan_every_event: bool = False
    quotas: tuple[QuotaTerms, ...] = ()
    protection: Protection = field(default_factory=Protection)


class Simulation:
    """One run.

    After `run`, `queue` and `cluster` have the remaining jobs; `passes` counts calls of `plan()`.
    """

    def __init__(
        self, workload: Workload, nodes: NodeTable, rules: Rules, observers: Sequence[Observer]
    ) -> None:
        self.cluster = Cluster(nodes)
        self.queue = PendingQueue()
        self.now = 0.0
        self.passes = 0
        self.arrived = 0
        self._rules = rules
        self._observers = observers
        self._admission = AdmissionCheck(nodes)
        self._quotas = OrganizationQuotas(rules.quotas, nodes)
        self._arrivals = _Arrivals(workload.jobs())
        self._events = EventQueue()
        self._load = ClusterLoad()
        self._row_of = {int(node_id): row for row, node_id in enumerate(nodes.id)}
        self._nominations: tuple[Nomination, ...] = ()
        self._inadmissible: set[EquivalenceClass] = set()
        self._has_new_classes = False
        self._capacity_freed = False
        self._allocations = 0

    def run(self, progress: Progress | None = None) -> None:
        """Process all events. Raises WorkloadError for an invalid row, SimulationError for an invalid plan.

        At each time: attempts end, jobs arrive, and then one pass of `plan()`, unless it cannot change
        anything.
        """
        reported = -_ARRIVALS_PER_PROGRESS
        while (time := self._next_time()) <= self._rules.until and time < inf:
            self._advance_to(time)
            while self._events.next_time == time:
                self._process(*self._events.pop())
            while self._arrivals.next_time == time:
                self._arrive(self._arrivals.pop())
            if self._needs_pass():
                self._plan()
            if progress is not None and self.arrived - reported >= _ARRIVALS_PER_PROGRESS:
                reported = self.arrived
                progress(self.arrived, self.now)
        if isfinite(self._rules.until):
            self._advance_to(self._rules.until)

    def _next_time(self) -> float:
        return min(self._events.next_time, self._arrivals.next_time)

    def _advance_to(self, time: float) -> None:
        if time > self.now:
            self._load.waiting = len(self.queue)
            self._load.waiting_gpu_milli = self.queue.gpu_milli
            for observer in self._observers:
                observer.time_passed(self.now, time, self._load, self.cluster.free)
            self.now = time

    def _process(self, attempt: Attempt, kind: EventKind) -> None:
        if kind is EventKind.UNPROTECTED:
            # A further attempt may be evicted now, which has the effect of freed capacity.
            self._capacity_freed = True
        else:
            self._release(attempt)

    def _release(self, attempt: Attempt) -> None:
        """Free the capacity of an attempt that is done, or whose grace period is over."""
        self.cluster.release(attempt)
        self._count(attempt, -1)
        self._capacity_freed = True
        for observer in self._observers:
            observer.released(attempt, self.now)
        if attempt.stopped_at is None:
            for observer in self._observers:
                observer.ended(attempt, self.now)
        else:
            self._queue(attempt.record)

    def _arrive(self, job: Job) -> None:
        self.arrived += 1
        min_runtime = max(job.min_runtime, self._rules.protection.min_runtime)
        if min_runtime != job.min_runtime:
            job = replace(job, min_runtime=min_runtime)
        outcome = self._admission.check(job)
        if isinstance(outcome, Split):
            job = outcome.apply_to(job)
        if not isinstance(outcome, Rejection):
            outcome = self._quotas.limit_rejection(job) or outcome
        for observer in self._observers:
            observer.arrived(job, self.now)
            if isinstance(outcome, Rejection):
                observer.rejected(job, outcome, self.now)
            elif outcome is not None:
                observer.split(job, outcome, self.now)
        if not isinstance(outcome, Rejection):
            self._queue(JobRecord(job, self._quotas.index_of(job.organization)))

    def _queue(self, record: JobRecord) -> None:
        self.queue.add(record)
        if equivalence_class(record.job) not in self._inadmissible:
            self._has_new_classes = True

    def _needs_pass(self) -> bool:
        """Whether a pass could change anything.

        After a pass, every equivalence class with a queued job without nomination is inadmissible until
        capacity is freed: another job of the class needs no pass. After freed capacity a pass is needed if
        any class fits on a node when all lower priorities are evicted. Nominations and releasing attempts
        always need a pass.

        On a shared cluster the order of the queue changes with usage and time, so a pass is skipped only if
        nothing could start in any order.
        """
        if self._rules.plan_every_event:
            return True
        if not len(self.queue):
            self._capacity_freed = False
            return False
        if self._quotas.is_shared:
            return self._needs_shared_pass()
        if self._has_new_classes or (self._capacity_freed and (self._nominations or self.cluster.releasing)):
            return True
        if not self._capacity_freed:
            return False
        self._capacity_freed = False
        return self.cluster.may_admit(self.queue.class_counts)

    def _needs_shared_pass(self) -> bool:
        if self._nominations or self.cluster.releasing:
            return True
        below = inf if self._rules.policy.preemption else -inf
        return self.cluster.may_admit_below(below, self.queue.class_counts)

    def _plan(self) -> None:
        snapshot = Snapshot(
            now=self.now,
            nodes=self.cluster.nodes,
            allocations=self.cluster.table(),
            pending=self.queue.table(),
            shapes=self.queue.shapes(),
            nominations=self._nominations,
            quotas=self._quotas.quotas,
        )
        result = plan(snapshot, self._rules.policy)
        self.passes += 1
        self._has_new_classes = self._capacity_freed = False
        self._evict_all(result.evictions)
        self._start_all(result.placements)
        self._nominations = result.nominations
        self._inadmissible = self._inadmissible_classes()

    def _inadmissible_classes(self) -> set[EquivalenceClass]:
        job_ids = {nomination.deployment_id for nomination in self._nominations}
        nominated = [equivalence_class(self.queue.get(job_id).job) for job_id in job_ids]
        if not nominated:
            return set(self.queue.class_counts)
        counts = self.queue.class_counts.items()
        return {job_class for job_class, count in counts if count > nominated.count(job_class)}

    def _evict_all(self, evictions: Sequence[Eviction]) -> None:
        """Evict whole jobs. Raises SimulationError when some replicas of a job were left out."""
        preemptor_of = {eviction.deployment_id: eviction.preemptor_id for eviction in evictions}
        replicas = Counter(eviction.deployment_id for eviction in evictions)
        for job_id, preemptor_id in preemptor_of.items():
            attempt = self.cluster.attempts[job_id]
            if replicas[job_id] != len(attempt.placements):
                raise SimulationError(f"only some replicas of job {job_id} were evicted")
            self._evict(attempt, preemptor_id)

    def _evict(self, attempt: Attempt, preemptor_id: int) -> None:
        attempt.stopped_at = self.now
        attempt.record.evictions += 1
        if budget := self._rules.protection.budget:
            attempt.record.evicted_at = [*attempt.record.evicted_at, self.now][-budget:]
        self.cluster.stop(attempt)
        self._events.schedule_release(attempt, self.now + self._rules.grace)
        for observer in self._observers:
            observer.evicted(attempt, preemptor_id, self.now)

    def _start_all(self, placements: Sequence[Placement]) -> None:
        by_job: dict[int, list[Placement]] = {}
        for placement in placements:
            by_job.setdefault(placement.deployment_id, []).append(placement)
        for job_id, replicas in by_job.items():
            replicas.sort(key=lambda placement: placement.replica)
            self._start(
                job_id,
                tuple(
                    ReplicaPlacement(self._row_of[replica.node_id], replica.gpu_indices)
                    for replica in replicas
                ),
            )

    def _start(self, job_id: int, placements: tuple[ReplicaPlacement, ...]) -> None:
        """Start all replicas. Raises SimulationError when a replica is missing."""
        record = self.queue.remove(job_id)
        until = self._rules.protection.protected_until(record.job, self.now, record.evicted_at)
        attempt = Attempt(self._allocations + 1, record, placements, self.now, protected_until=until)
        if len(placements) != record.job.replicas:
            raise SimulationError(f"only some replicas of job {job_id} were started")
        self._allocations += len(placements)
        self.cluster.start(attempt)
        self._count(attempt, 1)
        self._events.schedule_end(attempt)
        for observer in self._observers:
            observer.started(attempt, self.now)
        if record.first_started_at is None:
            record.first_started_at = self.now

    def _count(self, attempt: Attempt, sign: int) -> None:
        shape, load = attempt.record.job.shape, self._load
        load.running += sign
        sign *= len(attempt.placements)
        load.cpu_milli += sign * shape.cpu_milli
        load.ram_mib += sign * shape.ram_mib
        load.gpu_milli += sign * shape.gpu_milli


class _Arrivals:
    """The jobs of the workload, with the time of the next arrival."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._upcoming = next(jobs, None)

    @property
    def next_time(self) -> float:
        """The time of the next arrival; infinity without one."""
        return inf if self._upcoming is None else self._upcoming.arrival

    def pop(self) -> Job:
        """Remove and return the next job. Raises StopIteration without one."""
        job = self._upcoming
        if job is None:
            raise StopIteration
        self._upcoming = next(self._jobs, None)
        return job
