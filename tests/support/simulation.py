"""Small workloads for the simulator, and a witness that recomputes what it must not get wrong."""

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
    """A job; `workload` numbers it."""
    return Job(0, arrival, duration, shape, organization, priority, replicas=replicas, divisible=divisible)


def workload(*jobs: Job) -> ListedWorkload:
    """The jobs by arrival, numbered from 1, the first one at 0."""
    ranked = sorted(jobs, key=lambda each: each.arrival)
    first = ranked[0].arrival
    numbered = [
        replace(each, id=number, arrival=each.arrival - first) for number, each in enumerate(ranked, start=1)
    ]
    return ListedWorkload("made up", tuple(numbered))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Witness:
    """Notes who ran when and where, and holds every start against the capacity of the node by itself."""

    def __init__(self, fleet: Sequence[NodeSpec]) -> None:
        self.fleet = fleet
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
        for place in attempt.placements:
            self._check(place.node)
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
        node = self.fleet[row]
        here = [
            (each.record.job.shape, place)
            for each in self.held.values()
            for place in each.placements
            if place.node == row
        ]
        assert sum(shape.cpu_milli for shape, _ in here) <= node.cpu_milli
        assert sum(shape.ram_mib for shape, _ in here) <= node.ram_mib
        for device in range(64):
            taken = sum(shape.gpu_milli_per_device for shape, place in here if device in place.gpu_indices)
            assert taken <= (1000 if device < node.gpu_count else 0)


def run(
    jobs: ListedWorkload, fleet: Sequence[NodeSpec], rules: Rules | None = None
) -> tuple[Simulation, Witness, Recorder]:
    """Simulate to the end, under the eyes of a witness."""
    witness, nodes = Witness(fleet), node_table(fleet)
    recorder = Recorder(nodes, jobs.span)
    simulation = Simulation(jobs, nodes, rules or Rules(), [witness, recorder])
    simulation.run()
    return simulation, witness, recorder


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
    """Up to 25 jobs that crowd a small cluster; some can never run, some come at the same moment."""
    made = st.builds(
        job,
        arrival=st.integers(0, 30).map(float),
        duration=st.integers(0, 25).map(float),
        shape=st.sampled_from(SHAPES),
        priority=st.sampled_from((100, 500, 500, 750)),
        organization=st.sampled_from(("a", "b", "c")),
        replicas=st.sampled_from((1, 1, 1, 2, 3)),
        divisible=st.booleans(),
    )
    jobs = draw(st.lists(made, min_size=1, max_size=25))
    return workload(
        *(
            replace(
                each,
                preemptible=draw(st.integers(0, 4)) > 0,
                spread=draw(st.booleans()),
                min_runtime=draw(st.sampled_from((0.0, 0.0, 0.0, 2.0, 7.0))),
            )
            for each in jobs
        )
    )


@st.composite
def fleets(draw: st.DrawFn) -> tuple[NodeSpec, ...]:
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
def terms(draw: st.DrawFn) -> tuple[QuotaTerms, ...]:
    """Quotas for some of the organizations of `workloads`; guarantees may be promised more than once."""
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
