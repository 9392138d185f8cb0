"""The brute-force checks find what they are for."""

from __future__ import annotations

import random

import pytest
from benchmarks.loops import run_workload
from benchmarks.support.audit import Audit, inversions
from benchmarks.support.virtual_cluster import Job, Node, Running, World, random_world

from hypervisor.scheduling.plan_result import Eviction, Placement, Plan, PreemptionRule
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape


def job(number: int, priority: int = 100, gpu: int = 1000) -> Job:
    return Job(number, Shape(1000, 1024, gpu), priority, 0.0, 1000.0, True, 0.0, 1.0)


def world(*running: Running, waiting: tuple[Job, ...] = (), gpus: int = 2) -> World:
    made = World([Node(1, 16_000, 32_768, gpus, "A")], [], now=100.0)
    made.running = {run.job.id: run for run in running}
    made.waiting = {each.id: each for each in waiting}
    return made


def runs(of: Job, *devices: int) -> Running:
    return Running(of, 1, devices, 0.0, float("inf"))


def eviction(victim: int, preemptor: int) -> Eviction:
    return Eviction(victim, victim, 1, preemptor, 0.0, PreemptionRule.PRIORITY, 500, 100)


def test_finds_one_that_evicting_a_lower_one_would_admit() -> None:
    assert inversions(world(runs(job(1), 0), runs(job(2), 1), waiting=(job(3, 500),))) == [3]
    assert inversions(world(runs(job(1, 500), 0), runs(job(2, 500), 1), waiting=(job(3, 500),))) == []


def test_finds_one_that_free_room_would_admit() -> None:
    assert inversions(world(runs(job(1), 0), waiting=(job(3),))) == [3]


def test_room_kept_for_a_higher_one_is_no_inversion() -> None:
    held = world(runs(job(1, 750), 0), waiting=(job(3, 500), job(4, 100)))
    held.nominations = (Nomination(3, 1, (1,)),)
    assert inversions(held) == []


def audited(of: World, decided: Plan) -> Audit:
    audit = Audit(of)
    audit.before(decided)
    of.apply(decided)
    audit.after()
    return audit


def test_finds_a_victim_that_could_have_stayed() -> None:
    of = world(runs(job(1), 0), waiting=(job(3, 500),))
    audit = audited(of, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (1,)),)))
    assert audit.counts["useless_evictions"] == 1


def test_finds_a_preemptor_that_never_ran() -> None:
    of = world(runs(job(1), 0), runs(job(2), 1), waiting=(job(3, 500),))
    audit = audited(of, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    assert audit.faults == 0
    audit.at_rest()
    assert audit.counts["useless_evictions"] == 1


def test_finds_a_second_eviction_in_one_stay() -> None:
    of = world(runs(job(1), 0), runs(job(2), 1), waiting=(job(3, 500),))
    audit = audited(of, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    audit.before(Plan(evictions=(eviction(2, 3),), nominations=(Nomination(3, 1, (1,)),)))
    assert audit.counts["in_flight"] == 1
    assert audit.counts["preemptions_after_stop"] == 1


def test_finds_an_eviction_of_an_equal_one() -> None:
    of = world(runs(job(1, 500), 0), runs(job(2), 1), waiting=(job(3, 500),))
    audit = audited(of, Plan(evictions=(eviction(1, 3),), nominations=(Nomination(3, 1, (0,)),)))
    assert audit.counts["illegal_evictions"] == 1


def test_finds_an_overcommitted_device() -> None:
    of = world(runs(job(1), 0), waiting=(job(3),))
    assert audited(of, Plan(placements=(Placement(3, 1, (0,)),))).counts["overcommits"] == 1


@pytest.mark.parametrize("seed", range(15))
def test_worlds_come_to_rest(seed: int) -> None:
    audit = run_workload(seed)
    assert audit.counts["passes"] > 0
    assert audit.counts["illegal_evictions"] == audit.counts["overcommits"] == audit.counts["inversions"] == 0


def test_worlds_are_the_seeds() -> None:
    first, again, other = (random_world(random.Random(seed)) for seed in (5, 5, 6))
    assert first == again != other
