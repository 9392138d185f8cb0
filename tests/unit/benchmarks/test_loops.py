"""The brute-force checks detect every fault."""

from __future__ import annotations

import random

import pytest
from benchmarks.loops import run_workload
from benchmarks.support.audit import Audit, inversions
from benchmarks.support.virtual_cluster import Job, Node, Running, VirtualCluster, random_cluster

from hypervisor.scheduling.plan_result import Eviction, Placement, Plan, PreemptionRule
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape


def job(number: int, priority: int = 100, gpu: int = 1000) -> Job:
    return Job(number, Shape(1000, 1024, gpu), priority, 0.0, 1000.0, True, 0.0, 1.0)


def cluster(*allocations: Running, waiting: tuple[Job, ...] = (), gpus: int = 2) -> VirtualCluster:
    created = VirtualCluster([Node(1, 16_000, 32_768, gpus, "A")], [], now=100.0)
    created.running = {run.job.id: run for run in allocations}
    created.waiting = {waiting_job.id: waiting_job for waiting_job in waiting}
    return created


def running(started: Job, *devices: int) -> Running:
    return Running(started, 1, devices, 0.0, float("inf"))


def eviction(victim: int, preemptor: int) -> Eviction:
    return Eviction(victim, victim, 1, preemptor, 0.0, PreemptionRule.PRIORITY, 500, 100)


def test_an_admission_by_lower_evictions_is_an_inversion() -> None:
    assert inversions(cluster(running(job(1), 0), running(job(2), 1), waiting=(job(3, 500),))) == [3]
    assert inversions(cluster(running(job(1, 500), 0), running(job(2, 500), 1), waiting=(job(3, 500),))) == []


def test_an_admission_to_free_capacity_is_an_inversion() -> None:
    assert inversions(cluster(running(job(1), 0), waiting=(job(3),))) == [3]


def test_capacity_of_a_higher_nomination_is_no_inversion() -> None:
    held = cluster(running(job(1, 750), 0), waiting=(job(3, 500), job(4, 100)))
    held.nominations = (Nomination(3, 1, (1,)),)
    assert inversions(held) == []


def audited(state: VirtualCluster, plan: Plan) -> Audit:
    audit = Audit(state)
    audit.before(plan)
    state.apply(plan)
    audit.after()
    return audit


def test_a_victim_that_could_have_stayed_is_found() -> None:
    state = cluster(running(job(1), 0), waiting=(job(3, 500),))
    audit = audited(state, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (1,)),)))
    assert audit.counts["useless_evictions"] == 1


def test_a_preemptor_that_never_ran_is_found() -> None:
    state = cluster(running(job(1), 0), running(job(2), 1), waiting=(job(3, 500),))
    audit = audited(state, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    assert audit.faults == 0
    audit.at_rest()
    assert audit.counts["useless_evictions"] == 1


def test_a_second_preemption_in_one_waiting_period_is_found() -> None:
    state = cluster(running(job(1), 0), running(job(2), 1), waiting=(job(3, 500),))
    audit = audited(state, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    audit.before(Plan(evictions=(eviction(2, 3),), nominations=(Nomination(3, 1, (1,)),)))
    assert audit.counts["in_flight"] == 1
    assert audit.counts["preemptions_after_stop"] == 1


def test_an_eviction_of_the_same_priority_is_found() -> None:
    state = cluster(running(job(1, 500), 0), running(job(2), 1), waiting=(job(3, 500),))
    audit = audited(state, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    assert audit.counts["illegal_evictions"] == 1


def test_an_overcommitted_device_is_found() -> None:
    state = cluster(running(job(1), 0), waiting=(job(3),))
    assert audited(state, Plan(placements=(Placement(3, 1, (0,)),))).counts["overcommits"] == 1


@pytest.mark.parametrize("seed", range(15))
def test_random_clusters_reach_a_steady_state(seed: int) -> None:
    audit = run_workload(seed)
    assert audit.counts["passes"] > 0
    assert audit.counts["illegal_evictions"] == audit.counts["overcommits"] == audit.counts["inversions"] == 0


def test_random_clusters_depend_only_on_the_seed() -> None:
    first, again, other = (random_cluster(random.Random(seed)) for seed in (5, 5, 6))
    assert first == again != other
