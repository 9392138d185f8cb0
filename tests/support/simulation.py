"""Small workloads for the simulator, and an observer that recomputes its invariants."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.cluster_load import ClusterLoad, FreeCapacity
from hypervisor.simulation.engine import Rules, Simulation
from hypervisor.simulation.jobs import Attempt, Job, Rejection, Split
from hypervisor.simulation.metrics.recorder import Recorder
from hypervisor.simulation.node_specs import NodeSpec, node_table
from hypervisor.simulation.quotas import QuotaTerms
from hypervisor.simulation.readers.workload import ListedWorkload

WHOLE = Shape(0, 0, 1000)


def job(
    arrival: float,
    duration: float,
    shape: Shape = WHOLE,
    *,
    priority: int = 500,
    organization: str = "a",
    replicas: int = 1,
    divisible: bool = False,
) -> Job:
    """A job without a number; `workload` numbers it."""
    return Job(0, arrival, duration, shape, organization, priority, replicas=replicas, divisible=divisible)


def workload(*jobs: Job) -> ListedWorkload:
    """The jobs sorted by arrival and numbered from 1, with the first arrival at 0."""
    by_arrival = sorted(jobs, key=lambda job: job.arrival)
    first = by_arrival[0].arrival
    numbered = [
        replace(job, id=number, arrival=job.arrival - first) for number, job in enumerate(by_arrival, start=1)
    ]
    return ListedWorkload("made up", tuple(numbered))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class CheckingObserver:
    """Records starts, evictions and ends, and checks every start against the capacity of its node."""

    def __init__(self, nodes: Sequence[NodeSpec]) -> None:
        self.nodes = nodes
        self.arrivals: list[int] = []
        self.refusals: dict[int, str] = {}
        self.starts: dict[int, list[float]] = defaultdict(list)
        self.evictions: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self.ends: dict[int, float] = {}
        self.log: list[tuple[object, ...]] = []
        self.splits: dict[int, Split] = {}
        self.held: dict[int, Attempt] = {}
        self.gpu_seconds = 0.0
        self.highest_gpu: Counter[str] = Counter()

    def time_passed(self, start: float, end: float, load: ClusterLoad, free: FreeCapacity) -> None:
        assert end > start
        held = sum(
            len(attempt.placements) * attempt.record.job.shape.gpu_milli for attempt in self.held.values()
        )
        assert load.gpu_milli == held
        assert load.running == len(self.held)
        self.gpu_seconds += held / 1000 * (end - start)

    def arrived(self, job: Job, now: float) -> None:
        assert job.arrival == now
        self.arrivals.append(job.id)

    def split(self, job: Job, how: Split, now: float) -> None:
        self.splits[job.id] = how

    def rejected(self, job: Job, why: Rejection, now: float) -> None:
        self.refusals[job.id] = why.code

    def started(self, attempt: Attempt, now: float) -> None:
        self.starts[attempt.record.job.id].append(now)
        self.log.append(("start", now, attempt.record.job.id, attempt.placements))
        self.held[attempt.id] = attempt
        assert len(attempt.placements) == attempt.record.job.replicas
        for placement in attempt.placements:
            self._check(placement.node)
        name = attempt.record.job.organization
        used = sum(
            each.record.job.gpu_milli for each in self.held.values() if each.record.job.organization == name
        )
        self.highest_gpu[name] = max(self.highest_gpu[name], used)

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        assert now >= attempt.started_at + attempt.record.job.min_runtime
        self.evictions[attempt.record.job.id].append((now, preemptor_id))
        self.log.append(("evict", now, attempt.record.job.id, preemptor_id))

    def released(self, attempt: Attempt, now: float) -> None:
        del self.held[attempt.id]

    def ended(self, attempt: Attempt, now: float) -> None:
        assert attempt.record.job.id not in self.ends
        assert abs(now - attempt.started_at - attempt.record.job.duration) < 1e-6
        self.ends[attempt.record.job.id] = now
        self.log.append(("end", now, attempt.record.job.id))

    def _check(self, row: int) -> None:
        node = self.nodes[row]
        on_node = [
            (each.record.job.shape, placement)
            for each in self.held.values()
            for placement in each.placements
            if placement.node == row
        ]
        assert sum(shape.cpu_milli for shape, _ in on_node) <= node.cpu_milli
        assert sum(shape.ram_mib for shape, _ in on_node) <= node.ram_mib
        for device in range(64):
            taken = sum(
                shape.gpu_milli_per_device for shape, placement in on_node if device in placement.gpu_indices
            )
            assert taken <= (1000 if device < node.gpu_count else 0)


def run(
    jobs: ListedWorkload, nodes: Sequence[NodeSpec], rules: Rules | None = None
) -> tuple[Simulation, CheckingObserver, Recorder]:
    """Simulate to the end with a checking observer."""
    observer, table = CheckingObserver(nodes), node_table(nodes)
    recorder = Recorder(table, jobs.span)
    simulation = Simulation(jobs, table, rules or Rules(), [observer, recorder])
    simulation.run()
    return simulation, observer, recorder


SHAPES = (
    Shape(1000, 1024),
    Shape(1000, 1024, 300),
    Shape(2000, 1024, 500),
    Shape(1000, 4096, 1000),
    Shape(2000, 2048, 2000),
    Shape(1000, 1024, 1000, ("A",)),
    Shape(1000, 1024, 4000),
    Shape(9000, 1024, 8000),
)


@st.composite
def workloads(draw: st.DrawFn) -> ListedWorkload:
    """Up to 25 jobs for a small cluster. Some can never run, some arrive at the same time."""
    job_strategy = st.builds(
        job,
        arrival=st.integers(0, 30).map(float),
        duration=st.integers(0, 25).map(float),
        shape=st.sampled_from(SHAPES),
        priority=st.sampled_from((100, 500, 500, 750)),
        organization=st.sampled_from(("a", "b", "c")),
        replicas=st.sampled_from((1, 1, 1, 2, 3)),
        divisible=st.booleans(),
    )
    jobs = draw(st.lists(job_strategy, min_size=1, max_size=25))
    return workload(
        *(
            replace(
                drawn,
                preemptible=draw(st.integers(0, 4)) > 0,
                spread=draw(st.booleans()),
                min_runtime=draw(st.sampled_from((0.0, 0.0, 0.0, 2.0, 7.0))),
            )
            for drawn in jobs
        )
    )


@st.composite
def node_lists(draw: st.DrawFn) -> tuple[NodeSpec, ...]:
    nodes = st.builds(
        NodeSpec,
        name=st.just("n"),
        cpu_milli=st.sampled_from((2000, 4000)),
        ram_mib=st.sampled_from((4096, 8192)),
        gpu_count=st.integers(0, 4),
        gpu_model=st.sampled_from(("A", "B")),
    )
    found = draw(st.lists(nodes, min_size=1, max_size=3))
    return tuple(replace(node, name=f"n{number}") for number, node in enumerate(found))


@st.composite
def quota_terms(draw: st.DrawFn) -> tuple[QuotaTerms, ...]:
    """Quotas for some of the organizations of `workloads`; guarantees may exceed the capacity."""
    gpus = st.sampled_from((None, 0, 1000, 2000, 4000))
    chosen = draw(st.lists(st.sampled_from(("a", "b", "c")), min_size=1, max_size=3, unique=True))
    return tuple(
        QuotaTerms(
            name,
            (draw(st.sampled_from((None, 2000))), None, draw(gpus)),
            (None, draw(st.sampled_from((None, 4096))), draw(gpus)),
            draw(st.sampled_from((0.5, 1.0, 3.0))),
        )
        for name in chosen
    )
