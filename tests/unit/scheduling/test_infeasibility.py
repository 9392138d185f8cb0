"""The reasons of "can never run here" name what is really missing."""

from __future__ import annotations

import pytest

from hypervisor.scheduling.explanation.infeasibility import explain_request
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.snapshot import Shape
from tests.support.scheduling import Node, Pending, World, gpu_node

LABELLED = (
    gpu_node(1, gpus=8, model="A100", zone="a", disk="ssd"),
    gpu_node(2, gpus=4, model="T4", zone="b"),
    gpu_node(3, gpus=2, zone="c"),
)


def gpus(count: float, *models: str, **selector: str) -> Shape:
    return Shape(1000, 1024, round(count * 1000), models, tuple(sorted(selector.items())))


@pytest.mark.parametrize(
    ("nodes", "shape", "sentence", "suggestion"),
    [
        (
            [gpu_node(number, gpus=8) for number in range(1, 21)],
            gpus(4, "A100", "H100"),
            "no node has a GPU of model A100 or H100; the cluster has 160 GPUs without a model",
            "set the GPU model of the nodes that have A100 or H100",
        ),
        (
            [gpu_node(1, gpus=0)],
            gpus(4, "A100"),
            "no node has a GPU of model A100; the cluster has no GPUs",
            "add a node with A100",
        ),
        (
            LABELLED,
            gpus(1, "H100"),
            "the cluster has 8 GPUs of model A100, 4 of model T4 and 2 without a model",
            "set the GPU model of the nodes that have H100",
        ),
        (
            LABELLED,
            gpus(1, "A100", zone="b"),
            "no node that carries zone=b has a GPU of model A100; those nodes have 4 GPUs of model T4",
            "label a node that has A100 with zone=b",
        ),
        (
            LABELLED,
            gpus(1, zone="z", disk="ssd"),
            "no node carries zone=z; there is zone=a, zone=b and zone=c",
            "label a node with disk=ssd and zone=z",
        ),
        (LABELLED, gpus(1, rack="7"), "no node carries rack=7", "label a node with rack=7"),
        (
            LABELLED,
            gpus(1, zone="b", disk="ssd"),
            "no node carries all of disk=ssd and zone=b",
            "label a node with disk=ssd and zone=b",
        ),
        (
            LABELLED,
            gpus(6, "T4"),
            "more than any one node with a GPU of model T4 has; the nearest, node-2, is 2 GPUs too small",
            "lower the request by 2 GPUs",
        ),
        (
            LABELLED,
            gpus(4, zone="c"),
            "more than any one node with zone=c has; the nearest, node-3, is 2 GPUs too small",
            "lower the request by 2 GPUs",
        ),
        ([gpu_node(1, gpus=0)], gpus(0.5), "the nearest, node-1, is 0.5 GPU too small", "lower the request"),
        (LABELLED, Shape(99_000, 0, 0), "is 35 CPU cores too small", "lower the request by 35 CPU cores"),
        (LABELLED, Shape(0, 1024 * 1000, 0), "GB RAM too small", "lower the request by"),
    ],
)
def test_the_reason_names_what_is_missing(
    nodes: list[Node], shape: Shape, sentence: str, suggestion: str
) -> None:
    reason = explain_request(World(tuple(nodes)).snapshot(), shape)
    assert reason is not None
    assert sentence in reason.sentence
    assert suggestion in reason.suggestion


def waits(nodes: tuple[Node, ...], shape: Shape, replicas: int = 1) -> Reason:
    world = World(nodes, (), (Pending(1, shape, priority=500, replicas=replicas),))
    (unplaced,) = plan(world.snapshot()).unplaced
    return unplaced.reason


def test_a_closed_node_that_is_large_enough_is_named() -> None:
    reason = waits((gpu_node(1, gpus=8, schedulable=False), gpu_node(2, gpus=2)), gpus(4))
    assert reason.code is ReasonCode.NO_SCHEDULABLE_NODE
    assert reason.sentence == (
        "no open node could take it even if nothing else ran; node-1 could, but is cordoned, draining or "
        "unreachable"
    )


def test_the_reason_of_a_gang_that_needs_a_closed_node_has_the_number_that_fits() -> None:
    nodes = (
        gpu_node(1, gpus=8, schedulable=False),
        gpu_node(2, gpus=2),
        gpu_node(3, gpus=2, schedulable=False),
    )
    reason = waits(nodes, gpus(2), replicas=3)
    assert reason.code is ReasonCode.NO_SCHEDULABLE_NODE
    assert reason.sentence == (
        "the open nodes could take only 1 of 3 replicas even if nothing else ran; node-1 and node-3 are "
        "cordoned, draining or unreachable"
    )


def test_a_gang_larger_than_the_cluster_names_the_number_that_fits() -> None:
    reason = waits((gpu_node(1, gpus=4), gpu_node(2, gpus=4)), gpus(4), replicas=3)
    assert reason.code is ReasonCode.GANG_LARGER_THAN_CLUSTER
    assert "could take only 2 of them" in reason.sentence
