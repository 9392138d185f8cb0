"""The simulation engine: small cases with known results, and properties of every run."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.admission import AdmissionCheck
from hypervisor.simulation.engine import Rules, Simulation
from hypervisor.simulation.jobs import Job, Rejection, Split
from hypervisor.simulation.metrics.recorder import Recorder
from hypervisor.simulation.node_specs import NodeSpec, node_table, parse_node_specs
from hypervisor.simulation.protection import Protection
from hypervisor.simulation.quotas import OrganizationQuotas, QuotaTerms
from hypervisor.simulation.readers.workload import ListedWorkload
from tests.support.properties import checked
from tests.support.simulation import WHOLE, job, node_lists, quota_terms, run, workload, workloads

ONE = parse_node_specs("1x1gpu")
TWO = parse_node_specs("1x2gpu")
PAIR = Shape(0, 0, 2000)

examples = checked(60)
rules = st.builds(
    Rules,
    policy=st.builds(
        Policy, placement=st.sampled_from(["fgd", "bestfit", "spread"]), preemption=st.booleans()
    ),
    grace=st.sampled_from([0.0, 3.0]),
    until=st.sampled_from([math.inf, 20.0]),
    protection=st.builds(
        Protection,
        min_runtime=st.sampled_from([0.0, 0.0, 3.0]),
        budget=st.sampled_from([0, 1, 2]),
        window=st.sampled_from([5.0, 20.0]),
        cooldown=st.sampled_from([4.0, 15.0]),
    ),
)


def starts_of(
    jobs: ListedWorkload, nodes: tuple[NodeSpec, ...], given_rules: Rules | None = None
) -> list[list[float]]:
    _, observer, _ = run(jobs, nodes, given_rules)
    return [observer.starts[number] for number in range(1, jobs.count + 1)]


def test_equal_jobs_run_in_the_order_of_arrival() -> None:
    jobs = workload(job(0, 10), job(1, 5), job(2, 1))
    assert starts_of(jobs, ONE) == [[0], [10], [15]]


def test_two_devices_serve_two_at_a_time() -> None:
    jobs = workload(job(0, 10), job(0, 4), job(1, 10), job(2, 1))
    assert starts_of(jobs, TWO) == [[0], [0], [4], [10]]


def test_a_large_job_at_the_head_starts_in_time() -> None:
    jobs = workload(job(0, 10), job(1, 5, PAIR), job(2, 10), job(3, 10))
    assert starts_of(jobs, TWO) == [[0], [10], [15], [15]]


def test_a_higher_priority_preempts_and_the_victim_starts_again() -> None:
    jobs = workload(job(0, 10, priority=100), job(4, 5, priority=750), job(5, 1, priority=100))
    _, observer, recorder = run(jobs, ONE)
    assert dict(observer.starts) == {1: [0, 9], 2: [4], 3: [19]}
    assert observer.evictions == {1: [(4, 2)]}
    assert observer.ends == {1: 19, 2: 9, 3: 20}
    assert recorder.totals.lost_gpu_seconds == 4


def test_a_victim_holds_its_capacity_for_the_grace_period() -> None:
    jobs = workload(job(0, 10, priority=100), job(4, 5, priority=750))
    _, observer, recorder = run(jobs, ONE, Rules(grace=2.0))
    assert dict(observer.starts) == {1: [0, 11], 2: [6]}
    assert recorder.totals.lost_gpu_seconds == 4
    assert recorder.grace_gpu_seconds == 2


def test_without_preemption_the_higher_priority_waits() -> None:
    jobs = workload(job(0, 10, priority=100), job(4, 5, priority=750))
    assert starts_of(jobs, ONE, Rules(Policy(preemption=False))) == [[0], [10]]


def test_a_job_that_is_not_preemptible_is_not_evicted() -> None:
    first = job(0, 10, priority=100)
    protected = ListedWorkload(
        "made up",
        tuple(
            replace(item, preemptible=item.id != 1)
            for item in workload(first, job(4, 5, priority=750)).listed
        ),
    )
    assert starts_of(protected, ONE) == [[0], [10]]


def test_an_eviction_waits_for_the_end_of_the_minimum_runtime() -> None:
    jobs = workload(replace(job(0, 10, priority=100), min_runtime=6), job(2, 5, priority=900))
    assert starts_of(jobs, ONE) == [[0, 11], [6]]
    plain = workload(job(0, 10, priority=100), job(2, 5, priority=900))
    assert starts_of(plain, ONE, Rules(protection=Protection(min_runtime=4))) == [[0, 9], [4]]
    assert starts_of(plain, ONE, Rules(protection=Protection(min_runtime=20))) == [[0], [10]]


def test_repeated_preemptions_are_followed_by_a_cooldown() -> None:
    urgent = [job(at, 1, priority=900) for at in (1, 3, 5)]
    jobs = workload(job(0, 10, priority=100), *urgent)
    assert starts_of(jobs, ONE) == [[0, 2, 4, 6], [1], [3], [5]]
    twice = Protection(budget=2, window=60, cooldown=8)
    assert starts_of(jobs, ONE, Rules(protection=twice)) == [[0, 2, 4, 12], [1], [3], [11]]
    long_ago = Protection(budget=2, window=1, cooldown=8)
    assert starts_of(jobs, ONE, Rules(protection=long_ago)) == [[0, 2, 4, 6], [1], [3], [5]]


def test_replicas_are_packed_or_spread() -> None:
    nodes = parse_node_specs("2x2gpu")
    packed, spread = job(0, 5, replicas=2), replace(job(0, 5, replicas=2), spread=True)
    for replicated, count in ((packed, 1), (spread, 2)):
        _, observer, _ = run(workload(replicated), nodes)
        (_, _, _, placements) = observer.log[0]
        assert isinstance(placements, tuple)
        assert len({placement.node for placement in placements}) == count


def test_replicas_start_together_and_end_together() -> None:
    jobs = workload(job(0, 10), job(1, 5, replicas=3), job(2, 1))
    simulation, observer, recorder = run(jobs, parse_node_specs("2x2gpu"))
    assert dict(observer.starts) == {1: [0], 2: [1], 3: [6]}
    assert observer.ends == {1: 10, 2: 6, 3: 7}
    assert recorder.totals.done_gpu_seconds == 10 + 3 * 5 + 1
    assert simulation.cluster.free.gpu_milli.tolist() == [[1000, 1000], [1000, 1000]]


def test_a_gang_that_does_not_fit_holds_no_capacity() -> None:
    jobs = workload(job(0, 10, PAIR), job(0, 10), job(1, 5, replicas=2), job(2, 4, priority=100))
    assert starts_of(jobs, parse_node_specs("2x2gpu")) == [[0], [0], [10], [2]]


def test_a_gang_is_evicted_whole_and_loses_the_work_of_all_its_replicas() -> None:
    jobs = workload(job(0, 10, priority=100, replicas=4), job(4, 5, priority=750))
    _, observer, recorder = run(jobs, parse_node_specs("2x2gpu"), Rules(grace=2.0))
    assert dict(observer.starts) == {1: [0, 11], 2: [6]}
    assert observer.evictions == {1: [(4, 2)]}
    assert recorder.totals.evictions == 1
    assert recorder.totals.lost_gpu_seconds == 16
    assert recorder.grace_gpu_seconds == 8


def test_a_gang_evicts_over_several_nodes() -> None:
    jobs = workload(job(0, 10, priority=100), job(0, 10, priority=100), job(4, 5, priority=750, replicas=2))
    _, observer, _ = run(jobs, parse_node_specs("2x1gpu"))
    assert dict(observer.starts) == {1: [0, 9], 2: [0, 9], 3: [4]}


@pytest.mark.parametrize(
    ("gpus", "specs", "expected"),
    [
        (16, ("4x8gpu",), Split(16, 2, 8, True)),
        (16, ("1x8gpu", "9x2gpu"), Split(16, 8, 2, True)),
        (12, ("4x8gpu",), Split(12, 2, 6, False)),
        (11, ("4x8gpu",), Split(11, 11, 1, False)),
        (40, ("9x8gpu", "1x10gpu"), Split(40, 5, 8, True)),
        (8, ("4x8gpu",), None),
        (134, ("20x8gpu",), "needs_gangs"),
        (40, ("4x8gpu",), "larger_than_every_node"),
    ],
    ids=[
        "fills nodes",
        "too few large ones",
        "no size divides it",
        "prime",
        "the largest have no partners",
        "fits a node",
        "too many parts",
        "more than all",
    ],
)
def test_a_divisible_job_is_split_into_equal_replicas(
    gpus: int, specs: tuple[str, ...], expected: Split | str | None
) -> None:
    nodes = tuple(node for text in specs for node in parse_node_specs(text))
    outcome = AdmissionCheck(node_table(nodes)).check(job(0, 1, Shape(0, 0, gpus * 1000), divisible=True))
    assert (outcome.code if isinstance(outcome, Rejection) else outcome) == expected


def test_a_split_divides_all_amounts_and_is_counted() -> None:
    jobs = workload(job(0, 5, Shape(9001, 10, 6000), divisible=True), job(0, 5))
    simulation, observer, recorder = run(jobs, parse_node_specs("3x2gpu,4cpu,1gb"))
    split = Split(6, 3, 2, True)
    assert observer.splits == {1: split}
    assert recorder.splits == {split: 1}
    assert split.replica_shape(Shape(9001, 10, 6000)) == Shape(3001, 4, 2000)
    assert recorder.totals.done_gpu_seconds == 35
    assert simulation.now == 10


def test_a_borrowed_guarantee_is_reclaimed_by_its_owner() -> None:
    owner = QuotaTerms("owner", (None, None, 2000))
    borrowed = [job(0, 10, organization="borrower", priority=750) for _ in range(4)]
    jobs = workload(*borrowed, job(3, 5, PAIR, organization="owner", priority=100))
    _, observer, _ = run(jobs, parse_node_specs("1x4gpu"), Rules(quotas=(owner,)))
    assert observer.starts[5] == [3]
    assert len(observer.evictions) == 2
    assert starts_of(jobs, parse_node_specs("1x4gpu"))[4] == [10]


def test_a_limit_holds_while_capacity_is_idle() -> None:
    limited = QuotaTerms("a", limit=(None, None, 2000))
    jobs = workload(*(job(0, 10) for _ in range(3)), job(1, 10, organization="b"))
    assert starts_of(jobs, parse_node_specs("1x4gpu"), Rules(quotas=(limited,))) == [[0], [0], [10], [1]]


def test_a_job_above_the_limit_of_its_organization_is_rejected() -> None:
    limited = QuotaTerms("a", limit=(None, None, 2000))
    jobs = workload(job(0, 10, replicas=3), job(0, 10, replicas=2))
    _, observer, recorder = run(jobs, parse_node_specs("1x4gpu"), Rules(quotas=(limited,)))
    assert observer.refusals == {1: "quota_limit"}
    assert recorder.rejected_jobs["quota_limit"].example == "requests 1 GPU more than the limit of a"
    assert dict(observer.starts) == {2: [0]}


def test_starts_are_proportional_to_the_weights_of_organizations() -> None:
    quotas = (QuotaTerms("a", weight=3.0), QuotaTerms("b", weight=1.0))
    jobs = workload(
        *(job(0, 1, organization="b") for _ in range(40)), *(job(0, 1, organization="a") for _ in range(40))
    )
    _, observer, _ = run(jobs, parse_node_specs("1x4gpu"), Rules(quotas=quotas, until=8.5))
    started = [sum(number in observer.starts for number in ids) for ids in (range(1, 41), range(41, 81))]
    assert started == [9, 27]


def test_a_guarantee_of_gpus_includes_cpu_and_ram() -> None:
    nodes = node_table(parse_node_specs("2x4gpu,8cpu,16gb"))
    quotas = OrganizationQuotas((QuotaTerms("a", (None, 1024, 2000)),), nodes)
    assert quotas.quotas[0].guaranteed == Resources(4000, 1024, 2000)
    assert quotas.index_of("b") == 1
    assert quotas.quotas[1].guaranteed == Resources()


def test_jobs_with_duration_zero_end_at_once() -> None:
    jobs = workload(job(0, 0), job(0, 0), job(0, 5))
    assert starts_of(jobs, ONE) == [[0], [0], [0]]


def test_a_job_without_end_runs_until_the_simulation_ends() -> None:
    simulation, observer, _ = run(workload(job(0, math.inf), job(1, 5)), ONE, Rules(until=50.0))
    assert simulation.now == 50
    assert len(simulation.cluster.attempts) == 1
    assert len(simulation.queue) == 1
    assert observer.gpu_seconds == 50


@pytest.mark.parametrize(
    ("shape", "replicas", "code"),
    [
        (WHOLE, 7, "gang_larger_than_cluster"),
        (Shape(0, 0, 4000), 1, "needs_gangs"),
        (Shape(0, 0, 16000), 1, "larger_than_every_node"),
        (Shape(0, 0, 1000, ("H100",)), 1, "gpu_model_matches_nothing"),
    ],
    ids=["too many replicas", "more than a node", "more than all", "another model"],
)
def test_a_job_that_can_never_run_is_rejected_with_its_reason(shape: Shape, replicas: int, code: str) -> None:
    listed = workload(job(0, 10, shape)).listed[0]
    jobs = ListedWorkload("made up", (type(listed)(1, 0.0, 10.0, shape, replicas=replicas),))
    simulation, observer, recorder = run(jobs, parse_node_specs("3x2gpu:A100"))
    assert observer.refusals == {1: code}
    assert recorder.rejected_jobs[code].jobs == 1
    assert simulation.passes == 0


@given(workloads(), node_lists(), rules)
@examples
def test_every_arrival_ends_runs_waits_or_was_rejected(
    jobs: ListedWorkload, nodes: tuple[NodeSpec, ...], given_rules: Rules
) -> None:
    """The observer also checks the capacity of the nodes at every start."""
    simulation, observer, recorder = run(jobs, nodes, given_rules)
    running = {attempt.record.job.id for attempt in simulation.cluster.attempts.values()}
    waiting = {int(job_id) for job_id in simulation.queue.table().deployment_id}
    groups = [set(observer.ends), set(observer.refusals), running, waiting]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(observer.arrivals)
    if given_rules.until == math.inf:
        assert len(observer.arrivals) == jobs.count
        assert not running
        assert not waiting
    assert recorder.totals.ended == len(observer.ends)


@given(workloads(), node_lists(), rules)
@examples
def test_the_integral_of_utilization_is_the_total_work(
    jobs: ListedWorkload, nodes: tuple[NodeSpec, ...], given_rules: Rules
) -> None:
    simulation, observer, recorder = run(jobs, nodes, given_rules)
    unfinished = sum(
        attempt.record.job.gpus
        * (
            simulation.now - attempt.started_at
            if attempt.stopped_at is None
            else simulation.now - attempt.stopped_at
        )
        for attempt in simulation.cluster.attempts.values()
    )
    totals = recorder.totals
    work = totals.done_gpu_seconds + totals.lost_gpu_seconds + recorder.grace_gpu_seconds + unfinished
    assert observer.gpu_seconds == pytest.approx(work)
    assert recorder.in_total[0] / 1000 == pytest.approx(work)
    assert recorder.time_series.values("gpu_milli").sum() / 1000 == pytest.approx(work)


@given(workloads(), node_lists(), rules)
@examples
def test_skipped_passes_would_change_nothing(
    jobs: ListedWorkload, nodes: tuple[NodeSpec, ...], given_rules: Rules
) -> None:
    _, skipping, _ = run(jobs, nodes, given_rules)
    _, every_event, _ = run(jobs, nodes, replace(given_rules, plan_every_event=True))
    assert skipping.log == every_event.log


@given(workloads(), node_lists(), rules, quota_terms())
@examples
def test_skipped_passes_would_change_nothing_on_a_shared_cluster_and_limits_hold(
    jobs: ListedWorkload, nodes: tuple[NodeSpec, ...], given_rules: Rules, quotas: tuple[QuotaTerms, ...]
) -> None:
    # The default horizon of a day has no effect in these short runs.
    policy = replace(given_rules.policy, age_horizon=10.0)
    shared = replace(given_rules, policy=policy, quotas=quotas)
    simulation, skipping, _ = run(jobs, nodes, shared)
    _, every_event, _ = run(jobs, nodes, replace(shared, plan_every_event=True))
    assert skipping.log == every_event.log
    assert simulation.queue.gpu_milli == 0 or given_rules.until < math.inf
    gpu_limits = {quota.organization: quota.limit[2] for quota in quotas if quota.limit[2] is not None}
    for organization, limit in gpu_limits.items():
        assert skipping.highest_gpu[organization] <= limit


@given(workloads(), node_lists())
@examples
def test_every_victim_starts_again_and_ends(jobs: ListedWorkload, nodes: tuple[NodeSpec, ...]) -> None:
    _, observer, _ = run(jobs, nodes)
    for victim, evictions in observer.evictions.items():
        assert len(observer.starts[victim]) == len(evictions) + 1
        assert observer.ends[victim] >= evictions[-1][0]


def test_a_blocked_queue_needs_no_passes() -> None:
    jobs = workload(job(0, 1000), *(job(number, 1) for number in range(1, 200)))
    simulation, observer, _ = run(jobs, ONE)
    assert observer.starts[200] == [1198]
    # One pass for the first job, one for the first queued job, one for each start.
    assert simulation.passes <= 202


class Stream:
    """A lazy workload with 50 shapes, in which every fifth job is a preemptor."""

    name = "stream"
    origin = None

    def __init__(self, count: int) -> None:
        self.count = count
        self.span = 10.0 * count

    def jobs(self) -> Iterator[Job]:
        for number in range(self.count):
            if number % 50 == 0:
                # A pass may leave reference cycles; the peak should not count them.
                gc.collect()
            priority = 750 if number % 5 == 0 else 100
            yield Job(number + 1, 10.0 * number, 15.0, Shape(number % 50, 0, 1000), "a", priority)


def peak_memory(count: int) -> int:
    nodes, stream = node_table(TWO), Stream(count)
    recorder = Recorder(nodes, stream.span)
    simulation = Simulation(stream, nodes, Rules(Policy("bestfit")), [recorder])
    tracemalloc.start()
    simulation.run()
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recorder.totals.ended == count
    return highest


def test_memory_does_not_grow_with_the_jobs_that_have_ended() -> None:
    few, many = peak_memory(300), peak_memory(1300)
    # Measured difference: a few kilobytes. One small object per job would be over 50 kilobytes.
    assert many < few + 32 * 1024
