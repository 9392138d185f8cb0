"""The order of the queue, and the choice of nodes and devices."""

from __future__ import annotations

import pytest

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape
from tests.support.scheduling import Node, Pending, Running, World, cpu, gpu, gpu_node


def placed(world: World, policy: Policy | None = None) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Deployment -> (node, devices)."""
    decided = plan(world.snapshot(), policy)
    return {item.deployment_id: (item.node_id, item.gpu_indices) for item in decided.placements}


def test_priority_then_age_then_id() -> None:
    one_free = World(
        nodes=(gpu_node(1, gpus=3),),
        pending=(
            Pending(1, gpu(1), priority=100, created_at=0),
            Pending(2, gpu(1), priority=500, created_at=9),
            Pending(4, gpu(1), priority=500, created_at=5),
            Pending(3, gpu(1), priority=500, created_at=5),
        ),
    )
    assert [item.deployment_id for item in plan(one_free.snapshot()).placements] == [3, 4, 2]


def test_an_empty_cluster_and_an_empty_queue_give_an_empty_plan() -> None:
    decided = plan(World(nodes=()).snapshot())
    assert (decided.placements, decided.evictions, decided.nominations) == ((), (), ())
    assert list(decided.unplaced) == []


def test_whole_devices_are_taken_completely_and_alone() -> None:
    half_used = Running(1, 1, gpu(0.5), devices=(0,), priority=500)
    world = World((gpu_node(1, gpus=3),), (half_used,), (Pending(2, gpu(2), priority=500),))
    assert placed(world) == {2: (1, (1, 2))}


def test_fractions_share_a_device() -> None:
    pending = tuple(Pending(number, gpu(0.5), priority=500) for number in range(1, 5))
    devices = [devices for _, devices in placed(World((gpu_node(1, gpus=2),), pending=pending)).values()]
    assert sorted(devices) == [(0,), (0,), (1,), (1,)]


def test_a_fraction_does_not_combine_two_devices() -> None:
    running = (
        Running(1, 1, gpu(0.6), devices=(0,), priority=500),
        Running(2, 1, gpu(0.6), devices=(1,), priority=500),
    )
    assert placed(World((gpu_node(1, gpus=2),), running, (Pending(3, gpu(0.7), priority=500),))) == {}


def test_fgd_keeps_whole_devices_for_requests_that_need_them() -> None:
    """The half goes to the device that is already partly used, on the node that has one."""
    running = (Running(1, 2, gpu(0.5), devices=(1,), priority=500),)
    world = World((gpu_node(1, gpus=2), gpu_node(2, gpus=2)), running, (Pending(2, gpu(0.5), priority=500),))
    typical = Policy(target_workload=[(gpu(1), 1.0)])
    assert placed(world, typical) == {2: (2, (1,))}


def test_fgd_does_not_strand_gpus_without_cpu() -> None:
    """A CPU request avoids the GPU node if GPU work needs its cores."""
    nodes = (Node(1, cpu=4000, ram=8192, gpus=4), Node(2, cpu=4000, ram=8192, gpus=0))
    world = World(nodes, pending=(Pending(1, cpu(4), priority=500),))
    assert placed(world, Policy(target_workload=[(gpu(1), 1.0)])) == {1: (2, ())}


@pytest.mark.parametrize(("score", "node"), [("bestfit", 2), ("spread", 1)])
def test_bestfit_fills_up_and_spread_evens_out(score: str, node: int) -> None:
    running = (Running(1, 2, gpu(2), devices=(0, 1), priority=500),)
    world = World((gpu_node(1), gpu_node(2)), running, (Pending(2, gpu(1), priority=500),))
    assert placed(world, Policy(placement=score))[2][0] == node


def test_equal_nodes_are_taken_in_the_order_of_their_ids() -> None:
    world = World((gpu_node(7), gpu_node(3)), pending=(Pending(1, gpu(1), priority=500),))
    assert placed(world)[1][0] == 3


def test_models_labels_and_cordons_are_respected() -> None:
    nodes = (
        gpu_node(1, model="T4"),
        gpu_node(2, model="A100", schedulable=False),
        gpu_node(3, model="A100", zone="b"),
        gpu_node(4, model="A100", zone="a"),
    )
    shape = Shape(1000, 1024, 1000, gpu_models=("A100",), node_selector=(("zone", "a"),))
    assert placed(World(nodes, pending=(Pending(1, shape, priority=500),)))[1][0] == 4


def test_more_shapes_than_score_classes_still_fit_exactly() -> None:
    """With many distinct shapes similar ones share a score, but the fit is always exact."""
    pending = tuple(Pending(n, Shape(1000 + n, 1024, 1000), priority=500, created_at=-n) for n in range(600))
    world = World((Node(1, cpu=1005, ram=2048, gpus=2),), pending=pending)
    assert set(placed(world)) == {5}
