"""Virtual time: jobs arrive, the real `plan()` decides, work ends."""

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
"""Told now and then how many jobs have arrived and what time it is."""

_TELL_EVERY = 256


@dataclass(frozen=True, slots=True)
class Rules:
    """How a simulation runs, beside its workload and its nodes.

    `grace` is how many seconds a victim holds its capacity after it was asked to stop. The run ends at
    `until`, or when nothing more can happen. `every_event` plans at every event, also where it is plain
    that nothing can come of it; the result is the same. With `quotas` organizations share the cluster.
    `protection` is what keeps work from being evicted too early or too often.
    """

    policy: Policy = field(default_factory=Policy)
    grace: float = 0.0
    until: float = inf
    plan_every_event: bool = False
    quotas: tuple[QuotaTerms, ...] = ()
    protection: Protection = field(default_factory=Protection)


class Simulation:
    """One run. After `run`, `waiting` and `cluster` hold what is left, `passes` counts calls of `plan()`."""

    def __init__(
        self, workload: Workload, nodes: NodeTable, rules: Rules, observers: Sequence[Observer]
    ) -> None:
        self.cluster = Cluster(nodes)
        self.waiting = PendingQueue()
        self.now = 0.0
        self.passes = 0
        self.arrived = 0
        self._rules = rules
        self._observers = observers
        self._admittance = AdmissionCheck(nodes)
        self._tenants = OrganizationQuotas(rules.quotas, nodes)
        self._arrivals = _Arrivals(workload.jobs())
        self._agenda = EventQueue()
        self._load = ClusterLoad()
        self._row_of = {int(node_id): row for row, node_id in enumerate(nodes.id)}
        self._nominations: tuple[Nomination, ...] = ()
        self._hopeless: set[EquivalenceClass] = set()
        self._newcomers = False
        self._freed = False
        self._allocations = 0

    def run(self, progress: Progress | None = None) -> None:
        """Let time pass to the end. Raises WorkloadError for a bad row, SimulationError for a bad plan.

        At each moment: work ends, jobs arrive, and if anything could come of it, one pass of `plan()`.
        """
        told = -_TELL_EVERY
        while (
            moment := min(self._agenda.next_time, self._arrivals.next)
        ) <= self._rules.until and moment < inf:
            self._pass_time(moment)
            while self._agenda.next_time == moment:
                self._turn(*self._agenda.pop())
            while self._arrivals.next == moment:
                self._arrive(self._arrivals.pop())
            if self._is_worth_planning():
                self._plan()
            if progress is not None and self.arrived - told >= _TELL_EVERY:
                told = self.arrived
                progress(self.arrived, self.now)
        if isfinite(self._rules.until):
            self._pass_time(self._rules.until)

    def _pass_time(self, moment: float) -> None:
        if moment > self.now:
            self._load.waiting = len(self.waiting)
            self._load.waiting_gpu_milli = self.waiting.gpu_milli
            for observer in self._observers:
                observer.time_passed(self.now, moment, self._load, self.cluster.free)
            self.now = moment

    def _turn(self, attempt: Attempt, turn: EventKind) -> None:
        if turn is EventKind.LAPSE:
            # Somebody may be evicted who could not be before: as good as room that came back.
            self._freed = True
        else:
            self._conclude(attempt)

    def _conclude(self, attempt: Attempt) -> None:
        """Its work is done, or its grace is over."""
        self.cluster.release(attempt)
        self._count(attempt, -1)
        self._freed = True
        for observer in self._observers:
            observer.released(attempt, self.now)
        if attempt.stopped_at is None:
            for observer in self._observers:
                observer.ended(attempt, self.now)
        else:
            self._queue(attempt.record)

    def _arrive(self, job: Job) -> None:
        self.arrived += 1
        shortest = max(job.min_runtime, self._rules.protection.min_runtime)
        if shortest != job.min_runtime:
            job = replace(job, min_runtime=shortest)
        judged = self._admittance.check(job)
        if isinstance(judged, Split):
            job = judged.apply_to(job)
        if not isinstance(judged, Rejection):
            judged = self._tenants.limit_rejection(job) or judged
        for observer in self._observers:
            observer.arrived(job, self.now)
            if isinstance(judged, Rejection):
                observer.rejected(job, judged, self.now)
            elif judged is not None:
                observer.split(job, judged, self.now)
        if not isinstance(judged, Rejection):
            self._queue(JobRecord(job, self._tenants.index_of(job.organization)))

    def _queue(self, ticket: JobRecord) -> None:
        self.waiting.add(ticket)
        if equivalence_class(ticket.job) not in self._hopeless:
            self._newcomers = True

    def _is_worth_planning(self) -> bool:
        """Whether a pass could change anything.

        After a pass, every kind of which one still waits without a nomination is hopeless until capacity
        comes back: one more of it can be added unseen. When capacity came back, a pass is worth it if any
        kind fits somewhere at least when all lower ones yield; outstanding nominations and releases always
        need one.

        On a shared cluster the order of the queue changes with usage and with time, and with it who is held
        up by its head. There only a pass is left out in which nothing could start whatever the order.
        """
        if self._rules.plan_every_event:
            return True
        if not len(self.waiting):
            self._freed = False
            return False
        if self._tenants.is_shared:
            return self._is_worth_planning_for_tenants()
        if self._newcomers or (self._freed and (self._nominations or self.cluster.releasing)):
            return True
        if not self._freed:
            return False
        self._freed = False
        return self.cluster.may_admit(self.waiting.class_counts)

    def _is_worth_planning_for_tenants(self) -> bool:
        if self._nominations or self.cluster.releasing:
            return True
        below = inf if self._rules.policy.preemption else -inf
        return self.cluster.may_admit_below(below, self.waiting.class_counts)

    def _plan(self) -> None:
        snapshot = Snapshot(
            now=self.now,
            nodes=self.cluster.nodes,
            allocations=self.cluster.table(),
            pending=self.waiting.table(),
            shapes=self.waiting.shapes(),
            nominations=self._nominations,
            quotas=self._tenants.quotas,
        )
        decided = plan(snapshot, self._rules.policy)
        self.passes += 1
        self._newcomers = self._freed = False
        self._evict_all(decided.evictions)
        self._start_all(decided.placements)
        self._nominations = decided.nominations
        self._hopeless = self._hopeless_kinds()

    def _hopeless_kinds(self) -> set[EquivalenceClass]:
        holders = {held.deployment_id for held in self._nominations}
        nominated = [equivalence_class(self.waiting.get(job_id).job) for job_id in holders]
        if not nominated:
            return set(self.waiting.class_counts)
        return {kind for kind, count in self.waiting.class_counts.items() if count > nominated.count(kind)}

    def _evict_all(self, evictions: Sequence[Eviction]) -> None:
        """Stop whole jobs. Raises SimulationError where replicas of one were left running."""
        preemptor_of = {eviction.deployment_id: eviction.preemptor_id for eviction in evictions}
        replicas = Counter(eviction.deployment_id for eviction in evictions)
        for job_id, preemptor_id in preemptor_of.items():
            attempt = self.cluster.attempts[job_id]
            if replicas[job_id] != len(attempt.placements):
                raise SimulationError(f"job {job_id} was evicted in part")
            self._evict(attempt, preemptor_id)

    def _evict(self, attempt: Attempt, preemptor_id: int) -> None:
        attempt.stopped_at = self.now
        attempt.record.evictions += 1
        if budget := self._rules.protection.budget:
            attempt.record.evicted_at = [*attempt.record.evicted_at, self.now][-budget:]
        self.cluster.stop(attempt)
        self._agenda.schedule_release(attempt, self.now + self._rules.grace)
        for observer in self._observers:
            observer.evicted(attempt, preemptor_id, self.now)

    def _start_all(self, placements: Sequence[Placement]) -> None:
        placed: dict[int, list[Placement]] = {}
        for placement in placements:
            placed.setdefault(placement.deployment_id, []).append(placement)
        for job_id, parts in placed.items():
            parts.sort(key=lambda part: part.replica)
            self._start(
                job_id,
                tuple(ReplicaPlacement(self._row_of[part.node_id], part.gpu_indices) for part in parts),
            )

    def _start(self, job_id: int, places: tuple[ReplicaPlacement, ...]) -> None:
        """Start all replicas. Raises SimulationError where one is missing."""
        ticket = self.waiting.remove(job_id)
        until = self._rules.protection.protected_until(ticket.job, self.now, ticket.evicted_at)
        attempt = Attempt(self._allocations + 1, ticket, places, self.now, protected_until=until)
        if len(places) != ticket.job.replicas:
            raise SimulationError(f"job {job_id} was started in part")
        self._allocations += len(places)
        self.cluster.start(attempt)
        self._count(attempt, 1)
        self._agenda.schedule_end(attempt)
        for observer in self._observers:
            observer.started(attempt, self.now)
        if ticket.first_started_at is None:
            ticket.first_started_at = self.now

    def _count(self, attempt: Attempt, sign: int) -> None:
        shape, load = attempt.record.job.shape, self._load
        load.running += sign
        sign *= len(attempt.placements)
        load.cpu_milli += sign * shape.cpu_milli
        load.ram_mib += sign * shape.ram_mib
        load.gpu_milli += sign * shape.gpu_milli


class _Arrivals:
    """The jobs to come, with a look at the next one's time."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._upcoming = next(jobs, None)

    @property
    def next(self) -> float:
        return inf if self._upcoming is None else self._upcoming.arrival

    def pop(self) -> Job:
        """The next job; call `next` before."""
        found = self._upcoming
        if found is None:
            raise StopIteration
        self._upcoming = next(self._jobs, None)
        return found
