"""openb traces (Alibaba cluster-trace-gpu-v2023) and the arrivals of the FGD protocol."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hypervisor.kernel.priority import NAMED_PRIORITIES
from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Shape

TARGET_LOAD = (13, 10)
"""The arrivals end before their milli-GPU exceed 13/10 of the cluster's."""

_TYPICAL_SHARE = 0.95
PRIORITY_OF_QOS = {
    "LS": NAMED_PRIORITIES["CRITICAL"],
    "Guaranteed": NAMED_PRIORITIES["HIGH"],
    "Burstable": NAMED_PRIORITIES["MEDIUM"],
    "BE": NAMED_PRIORITIES["LOW"],
}
_LEAST_IMPORTANT = "BE"


@dataclass(frozen=True, slots=True)
class TraceNode:
    name: str
    cpu_milli: int
    ram_mib: int
    gpu_count: int
    gpu_model: str | None


@dataclass(frozen=True, slots=True)
class TracePod:
    """One row of a pod list; `qos` is BE for a list without this column."""

    name: str
    shape: Shape
    qos: str = _LEAST_IMPORTANT

    @property
    def priority(self) -> int:
        """The QoS class as a priority: LS > Guaranteed > Burstable > BE."""
        return PRIORITY_OF_QOS[self.qos]


@dataclass(frozen=True, slots=True)
class Trace:
    nodes: tuple[TraceNode, ...]
    pods: tuple[TracePod, ...]

    @property
    def gpu_milli(self) -> int:
        """GPU capacity of all nodes."""
        return WHOLE_GPU * sum(node.gpu_count for node in self.nodes)


def read_trace(nodes: Path, pods: Path) -> Trace:
    """Read a node list and a pod list. Raises ValueError with file and line for an invalid row."""
    return Trace(
        tuple(_node(row) for row in _rows(nodes, ("sn", "cpu_milli", "memory_mib", "gpu"))),
        tuple(_pod(row) for row in _rows(pods, ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"))),
    )


def typical_requests(pods: Sequence[TracePod]) -> list[tuple[Shape, float]]:
    """The typical requests of the FGD paper with their shares.

    The most frequent specifications are taken until they cover 95 % of the pods, and the shares are
    normalized. As in the paper's simulator a specification has no RAM, so the 91 specifications of openb
    become 35.
    """
    counts = Counter(replace(pod.shape, ram_mib=0) for pod in pods)
    chosen: list[tuple[Shape, int]] = []
    covered = 0
    for shape, count in counts.most_common():
        if covered >= _TYPICAL_SHARE * len(pods):
            break
        chosen.append((shape, count))
        covered += count
    return [(shape, count / covered) for shape, count in chosen]


def arrivals(trace: Trace, seed: int) -> tuple[list[TraceNode], list[TracePod]]:
    """The nodes and the arrivals of a seed.

    The arrivals are all pods in random order, then random pods with replacement, until the next pod would
    exceed the target load. Then the nodes are shuffled. Raises ValueError if no pod of the trace requests a
    GPU.
    """
    if not any(pod.shape.gpu_milli for pod in trace.pods):
        raise ValueError("no pod requests a GPU, so the arrivals cannot reach the target load")
    rng = random.Random(seed)
    arriving = list(trace.pods)
    rng.shuffle(arriving)
    total = sum(pod.shape.gpu_milli for pod in arriving)
    over, under = TARGET_LOAD
    while True:
        drawn = rng.choice(trace.pods)
        total += drawn.shape.gpu_milli
        if total * under > trace.gpu_milli * over:
            break
        arriving.append(drawn)
    nodes = list(trace.nodes)
    rng.shuffle(nodes)
    return nodes, arriving


def generated_trace(nodes: int = 40, seed: int = 7) -> Trace:
    """A small random trace with a mix like openb's, for runs without the published files."""
    rng = random.Random(seed)
    sizes = rng.choices((0, 1, 2, 4, 8), (2, 1, 3, 2, 8), k=nodes)
    trace_nodes = tuple(
        TraceNode(f"node-{number:04d}", 96_000, 393_216, gpus, "T4" if gpus else None)
        for number, gpus in enumerate(sizes)
    )
    capacity = WHOLE_GPU * sum(sizes)
    pods: list[TracePod] = []
    while sum(pod.shape.gpu_milli for pod in pods) < capacity:
        gpu = rng.choices((0, 300, 460, 500, 810, 1000, 2000, 8000), (12, 8, 12, 6, 8, 48, 2, 1))[0]
        shape = Shape(rng.choice((2000, 4000, 6000, 8000, 12_000)), rng.choice((8192, 16_384, 32_768)), gpu)
        qos = rng.choices(tuple(PRIORITY_OF_QOS), (57, 1, 2, 40))[0]
        pods.append(TracePod(f"pod-{len(pods):04d}", shape, qos))
    return Trace(trace_nodes, tuple(pods))


def _rows(path: Path, required: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in required if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}:1: the column {missing[0]} is missing")
        found = [(f"{path}:{reader.line_num}", row) for row in reader]
    if not found:
        raise ValueError(f"{path}: the file has no rows")
    return found


def _node(located: tuple[str, dict[str, str]]) -> TraceNode:
    where, row = located
    try:
        cpu, ram, gpus = int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    return TraceNode(row["sn"], cpu, ram, gpus, row.get("model") or None)


def _pod(located: tuple[str, dict[str, str]]) -> TracePod:
    where, row = located
    try:
        cpu, ram, gpus = int(row["cpu_milli"]), int(row["memory_mib"]), int(row["num_gpu"])
        milli = int(row["gpu_milli"] or 0) if gpus else 0
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    if milli > WHOLE_GPU or (gpus > 1 and milli != WHOLE_GPU) or (gpus and milli <= 0):
        raise ValueError(f"{where}: {gpus} devices of {milli} milli-GPU each")
    models = tuple(sorted(filter(None, (row.get("gpu_spec") or "").split("|"))))
    qos = row.get("qos") or _LEAST_IMPORTANT
    if qos not in PRIORITY_OF_QOS:
        raise ValueError(f"{where}: unknown QoS class {qos!r}")
    return TracePod(row["name"], Shape(cpu, ram, gpus * milli, models if gpus else ()), qos)
