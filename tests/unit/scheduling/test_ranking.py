"""The ranking by tables and columns agrees with the plain definitions of the scores.

HV_HYPOTHESIS_EXAMPLES raises the number of random histories.
"""

from __future__ import annotations

import os
import random

import pytest

from hypervisor.scheduling.capacity.feasibility import usable_devices
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.node_ranking import NO_NODE, NodeRanking
from hypervisor.scheduling.scoring.registry import policy_names, scorer_for
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot
from tests.support.scoring import REFERENCE_SCORES, best_node

HISTORIES = int(os.environ.get("HV_HYPOTHESIS_EXAMPLES", "200")) // 10
CPUS, RAMS = (0, 500, 1000, 4000), (0, 512, 4096)
GPUS = (0, 100, 300, 500, 700, 1000, 1000, 2000, 4000)


def random_snapshot(rng: random.Random, shapes: int) -> Snapshot:
    builder = SnapshotBuilder(0.0)
    for node in range(rng.randint(1, 12)):
        builder.add_node(
            node,
            cpu_milli=rng.choice((4000, 16000, 32000)),
            ram_mib=rng.choice((4096, 32768)),
            gpu_count=rng.choice((0, 1, 4, 4, 8)),
            gpu_model=rng.choice(("A", "B")),
            labels={"zone": rng.choice("ab")},
            schedulable=rng.random() < 0.9,
        )
    for number in range(shapes):
        builder.add_pending(number, random_shape(rng, many=shapes > 100))
    return builder.build()


def random_shape(rng: random.Random, *, many: bool) -> Shape:
    return Shape(
        rng.randrange(4000) if many else rng.choice(CPUS),
        rng.randrange(4096) if many else rng.choice(RAMS),
        rng.choice(GPUS),
        rng.choice(((), (), (), ("A",))),
        rng.choice(((), (), (), (("zone", "a"),))),
    )


def place_at_random(rng: random.Random, state: WorkingState, request: Request, node: int) -> None:
    usable = usable_devices(request, state.idle_gpu[node].tolist()) if request.device_count else []
    state.place(node, request, tuple(rng.sample(usable, request.device_count)))


@pytest.mark.parametrize("placement", policy_names())
@pytest.mark.parametrize("burst", [1, 40])
def test_the_best_node_is_that_of_the_plain_definition(placement: str, burst: int) -> None:
    """Between two queries one node changes, or many: both ways of updating are covered."""
    for seed in range(HISTORIES):
        rng = random.Random(seed)
        snapshot = random_snapshot(rng, shapes=rng.choice((1, 3, 12)))
        state, eligibility = WorkingState(snapshot), Eligibility(snapshot.nodes)
        scorer = scorer_for(snapshot, Policy(placement=placement), state, eligibility)
        ranking = NodeRanking(state, scorer, snapshot.shapes, eligibility.request)
        requests = [eligibility.request(*item) for item in enumerate(snapshot.shapes)]
        for step in range(60):
            request = rng.choice(requests)
            node = ranking.best_node(request) if step % burst == 0 else NO_NODE
            if step % burst == 0:
                loss = REFERENCE_SCORES[placement](snapshot, state, request.shape)
                expected = best_node(state, request.shape, request.eligible.tolist(), loss)
                assert node == (NO_NODE if expected is None else expected), (seed, step)
            fitting = [best_node(state, request.shape, request.eligible.tolist(), lambda _: 0)]
            chosen = node if node != NO_NODE else fitting[0]
            if chosen is not None:
                place_at_random(rng, state, request, chosen)


def test_shapes_that_share_a_class_go_only_where_they_fit() -> None:
    for seed in range(max(1, HISTORIES // 10)):
        rng = random.Random(seed)
        snapshot = random_snapshot(rng, shapes=400)
        state, eligibility = WorkingState(snapshot), Eligibility(snapshot.nodes)
        scorer = scorer_for(snapshot, Policy(), state, eligibility)
        ranking = NodeRanking(state, scorer, snapshot.shapes, eligibility.request)
        for item in enumerate(snapshot.shapes):
            request = eligibility.request(*item)
            node = ranking.best_node(request)
            anywhere = best_node(state, request.shape, request.eligible.tolist(), lambda _: 0)
            assert (node == NO_NODE) == (anywhere is None)
            if node != NO_NODE:
                place_at_random(rng, state, request, node)
        assert (state.idle_cpu >= 0).all()
        assert (state.idle_ram >= 0).all()
        assert (state.idle_gpu >= 0).all()


@pytest.mark.parametrize("placement", policy_names())
def test_a_column_equals_the_rows(placement: str) -> None:
    rng = random.Random(7)
    snapshot = random_snapshot(rng, shapes=12)
    state, eligibility = WorkingState(snapshot), Eligibility(snapshot.nodes)
    policy = Policy(placement=placement)
    tracking = NodeRanking(
        state, scorer_for(snapshot, policy, state, eligibility), snapshot.shapes, eligibility.request
    )
    requests = [eligibility.request(*item) for item in enumerate(snapshot.shapes)]
    for _ in range(80):
        request = rng.choice(requests)
        recomputed = NodeRanking(
            state, scorer_for(snapshot, policy, state, eligibility), snapshot.shapes, eligibility.request
        )
        node = tracking.best_node(request)
        assert node == recomputed.best_node(request)
        if node != NO_NODE:
            assert tracking.best_node(request, without=node) == recomputed.best_node(request, without=node)
            place_at_random(rng, state, request, node)
