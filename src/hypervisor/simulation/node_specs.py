"""The nodes of a simulated cluster: made from a specification, and changed for a what-if."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypervisor.kernel.resources import MIB_PER_GIB, MILLI
from hypervisor.scheduling.snapshots.snapshot import MAX_GPUS_PER_NODE, NodeTable
from hypervisor.simulation.errors import WorkloadError

UNLIMITED = 1 << 40
"""CPU or RAM of a node whose specification does not say: never short, and no share of it is reckoned."""

_GROUP = re.compile(r"(?:(?P<count>\d+)x)?(?P<parts>\S+)")
_PART = re.compile(r"(?P<amount>\d+(?:\.\d+)?)(?P<unit>gpu|cpu|gb)(?::(?P<model>\S+))?", re.IGNORECASE)
_CHANGE = re.compile(r"(?P<sign>[+-])(?P<amount>\d+(?:\.\d+)?)(?P<percent>%?)")
_MOST_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class NodeSpec:
    name: str
    cpu_milli: int = UNLIMITED
    ram_mib: int = UNLIMITED
    gpu_count: int = 0
    gpu_model: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


NodeSpecs = tuple[NodeSpec, ...]


def parse_node_specs(text: str) -> NodeSpecs:
    """`100x8gpu:A100,64cpu,512gb` as nodes; the model is optional, and CPU or RAM that is left out is never
    short. Raises WorkloadError."""
    group = _GROUP.fullmatch(text.strip())
    parts = [_PART.fullmatch(part) for part in group["parts"].split(",")] if group else []
    if not group or not all(parts):
        raise WorkloadError(f"{text!r} is neither a file nor nodes like 100x8gpu,64cpu,512gb")
    made = NodeSpec("")
    for part in parts:
        if part is not None:
            made = _with(made, part, text)
    count = int(group["count"] or 1)
    if count > _MOST_NODES:
        raise WorkloadError(f"{text!r}: at most {_MOST_NODES:,} nodes")
    return tuple(replace(made, name=f"node-{number}") for number in range(1, count + 1))


def _with(node: NodeSpec, part: re.Match[str], text: str) -> NodeSpec:
    amount, unit = float(part["amount"]), part["unit"].lower()
    if part["model"] and unit != "gpu":
        raise WorkloadError(f"{text!r}: only GPUs have a model")
    if unit == "cpu":
        return replace(node, cpu_milli=round(amount * MILLI))
    if unit == "gb":
        return replace(node, ram_mib=round(amount * MIB_PER_GIB))
    if amount != int(amount) or amount > MAX_GPUS_PER_NODE:
        raise WorkloadError(f"{text!r}: a node has 0 to {MAX_GPUS_PER_NODE} whole GPUs")
    return replace(node, gpu_count=int(amount), gpu_model=part["model"])


def is_resize(text: str) -> bool:
    """Whether this is a change of the nodes, like `+10%` or `-4`."""
    return _CHANGE.fullmatch(text.strip()) is not None


def resize(fleet: Sequence[NodeSpec], change: str) -> NodeSpecs:
    """More or fewer nodes of the same mix: `+10%`, `-25%`, `+4`, `-4`.

    Nodes are copied or taken away at equal distances along the list, so every kind has its share. Raises
    WorkloadError if none would be left.
    """
    found = _CHANGE.fullmatch(change.strip())
    if not found:
        raise WorkloadError(f"{change!r} is no change of the nodes; write +10%, -25%, +4 or -4")
    amount = float(found["amount"])
    if not found["percent"] and amount != int(amount):
        raise WorkloadError(f"{change!r}: nodes are whole, unless it is a percentage")
    count = round(len(fleet) * amount / 100) if found["percent"] else int(amount)
    if found["sign"] == "+":
        picked = [fleet[index * len(fleet) // count] for index in range(count)]
        more = (replace(node, name=f"{node.name}-more-{number}") for number, node in enumerate(picked, 1))
        return (*fleet, *more)
    if count >= len(fleet):
        raise WorkloadError(f"{change!r} of {len(fleet)} nodes leaves none")
    gone = {index * len(fleet) // count for index in range(count)}
    return tuple(node for index, node in enumerate(fleet) if index not in gone)


def node_table(fleet: Sequence[NodeSpec]) -> NodeTable:
    """The nodes as the scheduler sees them, with ids from 1 in their order."""
    return NodeTable(
        id=np.arange(1, len(fleet) + 1, dtype=np.int64),
        cpu_milli=np.array([node.cpu_milli for node in fleet], np.int64),
        ram_mib=np.array([node.ram_mib for node in fleet], np.int64),
        gpu_count=np.array([node.gpu_count for node in fleet], np.int32),
        schedulable=np.ones(len(fleet), np.bool_),
        name=tuple(node.name for node in fleet),
        gpu_model=tuple(node.gpu_model for node in fleet),
        labels=tuple(dict(node.labels) for node in fleet),
    )
