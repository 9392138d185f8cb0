"""Reasons of waiting deployments."""

from __future__ import annotations

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.explanation.infeasibility import explain_request
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.snapshot import Shape
from tests.support.scheduling import Node, Pending, Running, World, cpu, gpu, gpu_node


def reason_of(world: World, deployment_id: int) -> Reason:
    found = {item.deployment_id: item.reason for item in plan(world.snapshot()).unplaced}
    return found[deployment_id]


def busy_node(*priorities: int, node_id: int = 1, first_id: int = 50) -> tuple[Running, ...]:
    return tuple(
        Running(first_id + index, node_id, gpu(1), (index,), priority)
        for index, priority in enumerate(priorities)
    )


def test_the_exact_shortfall_on_the_nearest_node() -> None:
    world = World((gpu_node(1),), busy_node(900, 900), (Pending(1, gpu(4), priority=500),))
    reason = reason_of(world, 1)
    assert reason.code is ReasonCode.INSUFFICIENT_GPU
    assert reason.shortfall == Resources(0, 0, 2000)
    assert reason.nearest_node == "node-1"
    assert reason.sentence == (
        "needs 4 GPUs, 1 GB RAM and 1 CPU core; the nearest node node-1 has 2 GPUs free (2 short); "
        "2 of the same or a higher priority run there"
    )


def test_the_suggestions_that_would_start_it() -> None:
    world = World((gpu_node(1),), busy_node(900, 800), (Pending(1, gpu(3), priority=500),))
    assert reason_of(world, 1).suggestion == (
        "free 1 GPU on node-1, or lower the request to 2 GPUs, "
        "or raise the priority above 800: evicting deployment 51 would be enough"
    )


def test_enough_in_total_but_not_on_a_single_node() -> None:
    running = (*busy_node(900, 900), *busy_node(900, 900, node_id=2, first_id=60))
    world = World((gpu_node(1), gpu_node(2)), running, (Pending(1, gpu(3), priority=500),))
    reason = reason_of(world, 1)
    assert reason.code is ReasonCode.FRAGMENTED
    assert "no single node" in reason.sentence


def test_ram_and_cores_have_different_codes() -> None:
    node = Node(1, cpu=4000, ram=4096, gpus=0)
    running = (Running(50, 1, Shape(3000, 3072), (), 900),)
    ram_short = World((node,), running, (Pending(1, Shape(1000, 2048), priority=500),))
    cpu_short = World((node,), running, (Pending(1, Shape(2000, 1024), priority=500),))
    assert reason_of(ram_short, 1).code is ReasonCode.INSUFFICIENT_RAM
    assert reason_of(ram_short, 1).shortfall == Resources(0, 1024, 0)
    assert reason_of(cpu_short, 1).code is ReasonCode.INSUFFICIENT_CPU
    assert reason_of(cpu_short, 1).shortfall == Resources(1000, 0, 0)


def test_cordoned_nodes_are_named_as_the_cause() -> None:
    world = World((gpu_node(1, schedulable=False),), (), (Pending(1, gpu(1), priority=500),))
    assert reason_of(world, 1).code is ReasonCode.NO_SCHEDULABLE_NODE


def test_deployments_of_one_class_share_their_reason() -> None:
    pending = tuple(Pending(number, gpu(8), priority=500) for number in range(1, 4))
    unplaced = plan(World((gpu_node(1),), (), pending).snapshot()).unplaced
    assert len({id(item.reason) for item in unplaced}) == 1
    assert unplaced[1].deployment_id == 2
    assert len(unplaced[1:]) == 2


def refused(world: World, shape: Shape) -> ReasonCode | None:
    reason = explain_request(world.snapshot(), shape)
    return None if reason is None else reason.code


def test_what_is_refused_at_submit() -> None:
    world = World((gpu_node(1, model="T4"), gpu_node(2, gpus=1, zone="b")))
    selector = Shape(1000, 1024, node_selector=(("zone", "z"),))
    both = Shape(1000, 1024, 1000, gpu_models=("T4",), node_selector=(("zone", "b"),))
    assert refused(world, gpu(4)) is None
    assert refused(world, gpu(5)) is ReasonCode.LARGER_THAN_EVERY_NODE
    assert refused(world, cpu(65)) is ReasonCode.LARGER_THAN_EVERY_NODE
    assert refused(world, selector) is ReasonCode.NODE_SELECTOR_MATCHES_NOTHING
    assert refused(world, both) is ReasonCode.GPU_MODEL_MATCHES_NOTHING
    assert refused(World(()), gpu(1)) is ReasonCode.CLUSTER_HAS_NO_NODES


def test_a_busy_or_cordoned_node_does_not_cause_a_refusal() -> None:
    busy = World((gpu_node(1, gpus=1, schedulable=False),), busy_node(900))
    assert refused(busy, gpu(1)) is None


def test_the_refusal_names_the_nearest_node_and_what_it_lacks() -> None:
    reason = explain_request(World((gpu_node(1), gpu_node(2, gpus=2))).snapshot(), gpu(6))
    assert reason is not None
    assert (reason.nearest_node, reason.shortfall) == ("node-1", Resources(0, 0, 2000))
    assert "2 GPUs too small" in reason.sentence


def test_a_reason_as_data_is_in_the_units_of_the_api() -> None:
    world = World((gpu_node(1),), busy_node(900, 900), (Pending(1, gpu(4), priority=500),))
    data = reason_of(world, 1).as_data()
    assert data["code"] == "insufficient_gpu"
    assert data["shortfall"] == {"cpu_cores": 0.0, "ram_gb": 0.0, "gpu_count": 2.0}
