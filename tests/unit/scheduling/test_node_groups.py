"""Groups of equal nodes, and nodes that have changed since."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hypervisor.scheduling.capacity.node_groups import NodeGroups
from hypervisor.scheduling.capacity.working_state import WorkingState
from tests.support.scheduling import Node, Running, World, gpu, gpu_node


def groups_of(*nodes: Node, running: tuple[Running, ...] = ()) -> NodeGroups:
    return NodeGroups(WorkingState(World(nodes, running).snapshot()))


def test_a_group_has_nodes_of_the_same_size_state_model_and_labels() -> None:
    one = gpu_node(1)
    others = (
        replace(one, id=2),
        replace(one, id=3, cpu=1_000),
        replace(one, id=4, ram=1_024),
        replace(one, id=5, gpus=2),
        replace(one, id=6, model="A"),
        replace(one, id=7, zone="b"),
        replace(one, id=8, schedulable=False),
    )
    found = groups_of(one, *others)
    assert found.count == 7
    assert found.group_of[0] == found.group_of[1]


def test_running_work_separates_a_node_from_its_group() -> None:
    running = (Running(1, 2, gpu(1), (0,), 500), Running(2, 3, gpu(1), (1,), 500))
    found = groups_of(gpu_node(1), gpu_node(2), gpu_node(3), gpu_node(4), running=running)
    assert found.count == 3
    assert found.group_of[0] == found.group_of[3]


def test_a_group_is_represented_by_its_first_node_that_has_not_changed() -> None:
    found = groups_of(gpu_node(1), gpu_node(2), gpu_node(3), gpu_node(4, gpus=1))
    groups, nodes = found.unchanged(np.array([0]))
    assert dict(zip(groups.tolist(), nodes.tolist(), strict=True)) == {
        int(found.group_of[0]): 1,
        int(found.group_of[3]): 3,
    }
    groups, nodes = found.unchanged(np.array([0, 1, 2]))
    assert nodes.tolist() == [3]
