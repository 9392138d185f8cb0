"""The optimizer of a pass: what it may change, and what it must leave alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.decision_codec.encoding import encode, plan_digest
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import is_installed, solver_names
from hypervisor.scheduling.replay import replay
from hypervisor.scheduling.snapshots.snapshot import Shape
from tests.support.properties import checked, comparable, shuffled
from tests.support.scheduling import NOW, Node, Pending, Running, World, admits, commit, cpu, fits, free_on

PLAIN = Policy()
IMPROVING = Policy(optimizer_steps=3_000)
BY_ANY_SOLVER = [replace(IMPROVING, solver=name) for name in solver_names() if is_installed(name)]
improving = st.sampled_from(BY_ANY_SOLVER)
by_any_solver = pytest.mark.parametrize("policy", BY_ANY_SOLVER, ids=lambda one: one.solver)


def tight_world(seed: int) -> World:
    """Few nodes, and about as much pending work as fits: many sizes, some with GPUs, limits or replicas."""
    rng = random.Random(seed)
    nodes = tuple(
        Node(
            10 * number,
            cpu=rng.randint(2000, 4000),
            ram=rng.randint(2000, 4000),
            gpus=rng.choice([0, 0, 1, 2]),
            model=rng.choice(["A", "B"]),
            zone=rng.choice(["a", "a", "b"]),
        )
        for number in range(rng.randint(2, 4))
    )
    world = World(nodes)
    for number in range(rng.choice([0, 0, 2, 6])):
        world = _with_running(world, number, rng)
    pending = tuple(
        Pending(
            1000 + number,
            _shape(rng),
            rng.choice([100, 500]),
            created_at=rng.choice([NOW, NOW, NOW, 0.0]),
            preemptible=rng.random() < 0.8,
            protected=rng.random() < 0.2,
            replicas=rng.choice([1] * 9 + [2]),
        )
        for number in range(rng.randint(3, 7 * len(nodes)))
    )
    return replace(world, pending=pending)


def _shape(rng: random.Random) -> Shape:
    gpu = rng.choice([0, 0, 0, 0, 300, 700, 1000])
    zone = (("zone", "a"),) if rng.random() < 0.1 else ()
    return Shape(rng.randint(100, 1500), rng.randint(100, 1500), gpu, node_selector=zone)


def _with_running(world: World, number: int, rng: random.Random) -> World:
    node, shape = rng.choice(world.nodes), replace(_shape(rng), node_selector=())
    room = free_on(world, node)
    if not fits(shape, room):
        return world
    usable = [device for device, free in enumerate(room[2]) if free >= shape.gpu_milli_per_device]
    run = Running(
        number + 1,
        node.id,
        shape,
        tuple(usable[: shape.gpu_device_count]),
        rng.choice([100, 500]),
        releasing=rng.random() < 0.2,
    )
    return replace(world, running=(*world.running, run))


def placed_by_priority(world: World, decided: Plan) -> list[int]:
    """Placed deployments by priority, the highest first."""
    placed = {one.deployment_id for one in decided.placements}
    count = Counter(item.priority for item in world.pending if item.id in placed)
    return [count[500], count[100]]


tight_worlds = st.builds(tight_world, st.integers(0, 10**9))


@given(tight_worlds, improving, st.sampled_from([0.0, 10_000.0]))
@checked(60)
def test_the_optimizer_only_adds_placements(world: World, policy: Policy, patience: float) -> None:
    plain = plan(world.snapshot(), PLAIN)
    better = plan(world.snapshot(), replace(policy, overtake_limit_seconds=patience))
    before = {one.deployment_id for one in plain.placements}
    assert before <= {one.deployment_id for one in better.placements}
    assert placed_by_priority(world, plain) <= placed_by_priority(world, better)
    assert (plain.evictions, plain.nominations, plain.reprieved) == (
        better.evictions,
        better.nominations,
        better.reprieved,
    )


@given(tight_worlds, improving)
@checked(60)
def test_what_is_placed_fits_where_it_may_be(world: World, policy: Policy) -> None:
    decided = plan(world.snapshot(), policy)
    after = commit(world, decided)
    nodes = {node.id: node for node in world.nodes}
    pending = {item.id: item for item in world.pending}
    for one in decided.placements:
        shape = pending[one.deployment_id].shape
        assert admits(nodes[one.node_id], shape)
        assert len(set(one.gpu_indices)) == shape.gpu_device_count
    for node in after.nodes:
        free_cpu, free_ram, free_gpu = free_on(after, node)
        assert min(free_cpu, free_ram, *free_gpu, 0) == 0


@given(tight_worlds, improving)
@checked(60)
def test_every_waiting_deployment_has_a_reason(world: World, policy: Policy) -> None:
    decided = plan(world.snapshot(), policy)
    placed = {one.deployment_id for one in decided.placements}
    reasons = {one.deployment_id: one.reason for one in decided.unplaced}
    assert set(reasons) == {item.id for item in world.pending} - placed
    assert all(reason.sentence and reason.suggestion for reason in reasons.values())


@given(tight_worlds, improving)
@checked(60)
def test_the_next_pass_has_nothing_to_add(world: World, policy: Policy) -> None:
    world = replace(world, pending=tuple(replace(item, replicas=1) for item in world.pending))
    first = plan(world.snapshot(), policy)
    after = commit(world, first).snapshot()
    for again_by in (PLAIN, policy):
        again = plan(after, again_by)
        assert (again.placements, again.evictions) == ((), ())
        assert again.nominations == first.nominations


@given(tight_worlds, improving, st.randoms(use_true_random=False))
@checked(60)
def test_the_same_snapshot_gives_the_same_plan_whatever_its_order(
    world: World, policy: Policy, shuffle: random.Random
) -> None:
    mixed = replace(
        world,
        nodes=shuffled(world.nodes, shuffle),
        running=shuffled(world.running, shuffle),
        pending=shuffled(world.pending, shuffle),
    )
    assert comparable(plan(mixed.snapshot(), policy)) == comparable(plan(world.snapshot(), policy))


@given(tight_worlds, improving)
@checked(60)
def test_gangs_and_nominated_deployments_keep_their_nodes(world: World, policy: Policy) -> None:
    gangs = {item.id for item in world.pending if item.replicas > 1}
    plain, better = plan(world.snapshot(), PLAIN), plan(world.snapshot(), policy)
    assert [one for one in plain.placements if one.deployment_id in gangs] == [
        one for one in better.placements if one.deployment_id in gangs
    ]


# Best fit puts 3 and 4 cores together onto the nodes; only 5 + 3 + 2 and 6 + 4 leave nothing over.
NODES = (Node(1, cpu=10_000, ram=65_536, gpus=0), Node(2, cpu=10_000, ram=65_536, gpus=0))


def waiting(*cores: int, priority: int = 500, created_at: float = NOW) -> tuple[Pending, ...]:
    return tuple(
        Pending(number, cpu(count), priority, created_at) for number, count in enumerate(cores, start=1)
    )


@by_any_solver
def test_all_five_fit_once_they_are_arranged(policy: Policy) -> None:
    world = World(NODES, pending=waiting(5, 4, 3, 2, 6))
    assert len(plan(world.snapshot(), PLAIN).placements) < 5
    assert len(plan(world.snapshot(), policy).placements) == 5


@by_any_solver
def test_of_equal_deployments_the_oldest_is_placed(policy: Policy) -> None:
    """One of the two 6 fits after the rearrangement, and the older one is placed, whatever its id."""
    first = waiting(5, 4, 3, 2, created_at=NOW - 2)
    older, newer = Pending(9, cpu(6), 500, created_at=NOW - 1), Pending(8, cpu(6), 500, created_at=NOW)
    world = World(NODES, pending=(*first, newer, older))
    placed = {one.deployment_id for one in plan(world.snapshot(), policy).placements}
    assert placed == {1, 2, 3, 4, 9}


@by_any_solver
def test_a_replay_finds_the_same_arrangement(policy: Policy) -> None:
    snapshot = World(NODES, pending=waiting(5, 4, 3, 2, 6)).snapshot()
    stored = encode(snapshot, policy)
    again = replay(stored.blob, stored.digest, plan_digest(plan(snapshot, policy)))
    assert again.equal
    assert len(again.plan.placements) == 5
