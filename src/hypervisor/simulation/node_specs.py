"""Node specifications such as `100x8gpu:A100,64cpu,512gb`, and changes of their number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypervisor.kernel.resources import MIB_PER_GIB, MILLI
from hypervisor.scheduling.snapshots.snapshot import MAX_GPUS_PER_NODE, NodeTable
from hypervisor.simulation.errors import WorkloadError

UNLIMITED = 1 << 40
"""CPU or RAM of a node without a value in its specification. It is never short, and has no utilization."""

_SPEC = re.compile(r"(?:(?P<count>\d+)x)?(?P<parts>\S+)")
_PART = re.compile(r"(?P<amount>\d+(?:\.\d+)?)(?P<unit>gpu|cpu|gb)(?::(?P<model>\S+))?", re.IGNORECASE)
_CHANGE = re.compile(r"(?P<sign>[+-])(?P<amount>\d+(?:\.\d+)?)(?P<percent>%?)")
_MOST_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node in milli-CPU, MiB and whole GPUs."""

    name: str
    cpu_milli: int = UNLIMITED
    ram_mib: int = UNLIMITED
    gpu_count: int = 0
    gpu_model: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


NodeSpecs = tuple[NodeSpec, ...]


def parse_node_specs(text: str) -> NodeSpecs:
    """Parse `100x8gpu:A100,64cpu,512gb`: count, GPUs with an optional model, CPU cores, RAM in GB.

    Missing CPU or RAM is UNLIMITED. Raises WorkloadError.
    """
    match = _SPEC.fullmatch(text.strip())
    parts = [_PART.fullmatch(part) for part in match["parts"].split(",")] if match else []
    if not match or not all(parts):
        raise WorkloadError(
            f"{text!r} is neither a file nor a node specification such as 100x8gpu,64cpu,512gb"
        )
    node = NodeSpec("")
    for part in parts:
        if part is not None:
            node = _with(node, part, text)
    count = int(match["count"] or 1)
    if count > _MOST_NODES:
        raise WorkloadError(f"{text!r}: at most {_MOST_NODES:,} nodes")
    return tuple(replace(node, name=f"node-{number}") for number in range(1, count + 1))


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
    """Whether the text is meant as a change such as `+10%` or `-4`; `resize` checks it."""
    return text.strip().startswith(("+", "-"))


def resize(nodes: Sequence[NodeSpec], change: str) -> NodeSpecs:
    """Add or remove nodes and keep the mix: `+10%`, `-25%`, `+4`, `-4`.

    A percentage is rounded to whole nodes, and is at least one node. Nodes are copied or removed at equal
    distances in the list, so every type of node has its share. Raises WorkloadError for another text, for a
    change by nothing, and if no node or too many would be left.
    """
    match = _CHANGE.fullmatch(change.strip())
    if not match:
        raise WorkloadError(f"{change!r} is not a node change: write +10%, -25%, +4 or -4")
    amount = float(match["amount"])
    if not match["percent"] and amount != int(amount):
        raise WorkloadError(f"{change!r}: the number of nodes must be whole, or a percentage")
    if not amount:
        raise WorkloadError(f"{change!r} changes nothing: write +10%, -25%, +4 or -4")
    count = max(1, round(len(nodes) * amount / 100)) if match["percent"] else int(amount)
    if match["sign"] == "+" and len(nodes) + count > _MOST_NODES:
        raise WorkloadError(f"{change!r}: at most {_MOST_NODES:,} nodes")
    if match["sign"] == "+":
        copied = [nodes[index * len(nodes) // count] for index in range(count)]
        added = (replace(node, name=f"{node.name}-more-{number}") for number, node in enumerate(copied, 1))
        return (*nodes, *added)
    if count >= len(nodes):
        raise WorkloadError(f"{change!r}: no node of {len(nodes)} would be left")
    removed = {index * len(nodes) // count for index in range(count)}
    return tuple(node for index, node in enumerate(nodes) if index not in removed)


def node_table(nodes: Sequence[NodeSpec]) -> NodeTable:
    """The node table of the snapshot, with ids from 1 in the order of the list."""
    return NodeTable(
        id=np.arange(1, len(nodes) + 1, dtype=np.int64),
        cpu_milli=np.array([node.cpu_milli for node in nodes], np.int64),
        ram_mib=np.array([node.ram_mib for node in nodes], np.int64),
        gpu_count=np.array([node.gpu_count for node in nodes], np.int32),
        schedulable=np.ones(len(nodes), np.bool_),
        name=tuple(node.name for node in nodes),
        gpu_model=tuple(node.gpu_model for node in nodes),
        labels=tuple(dict(node.labels) for node in nodes),
    )
