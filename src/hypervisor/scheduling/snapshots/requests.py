"""Shapes prepared for a pass: amounts as plain integers, and the nodes that each may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Bool, NodeTable, Shape

Constraint = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One shape of a snapshot. `eligible` marks the nodes whose model, labels and state admit it.

    It takes `device_count` devices and `milli_per_device` of each. `whole_devices` means that it takes them
    completely.
    """

    index: int
    shape: Shape
    cpu: int
    ram: int
    device_count: int
    milli_per_device: int
    whole_devices: bool
    eligible: Bool
    eligible_everywhere: bool


class Eligibility:
    """Which nodes satisfy GPU models and node selector of a shape; computed once per combination."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._matching: dict[Constraint, Bool] = {}
        self._schedulable: dict[Constraint, Bool] = {}

    def matching(self, shape: Shape) -> Bool:
        """Nodes that match by model and labels, cordoned ones included."""
        key = constraint_of(shape)
        found = self._matching.get(key)
        if found is None:
            found = self._matching[key] = model_mask(self._nodes, key[0]) & selector_mask(self._nodes, key[1])
        return found

    def schedulable(self, shape: Shape) -> Bool:
        """Nodes that match and accept new work."""
        key = constraint_of(shape)
        found = self._schedulable.get(key)
        if found is None:
            found = self._schedulable[key] = self.matching(shape) & self._nodes.schedulable
        return found

    def request(self, index: int, shape: Shape) -> Request:
        eligible = self.schedulable(shape)
        return Request(
            index=index,
            shape=shape,
            cpu=shape.cpu_milli,
            ram=shape.ram_mib,
            device_count=shape.gpu_device_count,
            milli_per_device=shape.gpu_milli_per_device,
            whole_devices=shape.gpu_milli > 0 and shape.gpu_milli % WHOLE_GPU == 0,
            eligible=eligible,
            eligible_everywhere=bool(eligible.all()),
        )


def constraint_of(shape: Shape) -> Constraint:
    """The part of a shape that restricts its nodes; GPU models are ignored for a request without GPUs."""
    return (shape.gpu_models if shape.gpu_milli else (), shape.node_selector)


def model_mask(nodes: NodeTable, models: Sequence[str]) -> Bool:
    """Nodes whose GPU model is one of `models`; no models means any."""
    if not models:
        return np.ones(len(nodes), np.bool_)
    allowed = set(models)
    return np.array([model in allowed for model in nodes.gpu_model], np.bool_)


def selector_mask(nodes: NodeTable, selector: Sequence[tuple[str, str]]) -> Bool:
    """Nodes that carry every (label, value) pair of the selector."""
    if not selector:
        return np.ones(len(nodes), np.bool_)
    return np.array([_carries(labels, selector) for labels in nodes.labels], np.bool_)


def _carries(labels: Mapping[str, str], selector: Sequence[tuple[str, str]]) -> bool:
    return all(labels.get(label) == value for label, value in selector)
