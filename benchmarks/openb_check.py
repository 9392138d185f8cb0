"""A check of the placements from `benchmarks.openb`, computed independently from the trace.

    python -m benchmarks.openb_check --nodes FILE --pods FILE --placements OUT.jsonl

It prints one line per fault and exits with status 1 for a fault. Faults are: more CPU or RAM than a node has,
more than the capacity of a device, a GPU model that the pod does not accept, a wrong number of devices, and
arrivals that do not follow the protocol.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.openb import load_trace, placement_lines, run
from benchmarks.support.openb_trace import TARGET_LOAD, Trace, TraceNode, TracePod, generated_trace
from benchmarks.support.report import print_report
from hypervisor.kernel.resources import WHOLE_GPU

_SHOWN = 20
Line = Mapping[str, Any]


@dataclass(slots=True)
class _Used:
    cpu: int = 0
    ram: int = 0
    gpu: Counter[int] = field(default_factory=Counter)


def main() -> None:
    """Check a file; with `--small`, check a quick run, and that an invalid line is detected."""
    arguments = _parse()
    if arguments.small:
        trace = generated_trace()
        lines: list[Line] = [*placement_lines(run(trace, 42, "fgd", priority=True), 42)]
        invalid = _invalid(lines)
    else:
        trace = load_trace(arguments.nodes, arguments.pods)
        lines, invalid = _read(arguments.placements), None
    faults = find_faults(trace, lines)
    if invalid is not None and not find_faults(trace, invalid):
        faults.append("an invalid line was not detected")
    for fault in faults[:_SHOWN]:
        print(fault, file=sys.stderr)
    print_report(
        "openb_check",
        {"lines": len(lines), "faults": len(faults), "allocated_percent": allocated_percent(trace, lines)},
    )
    sys.exit(1 if faults else 0)


def find_faults(trace: Trace, lines: Iterable[Line]) -> list[str]:
    """One sentence per fault in these lines."""
    by_seed: defaultdict[int, list[Line]] = defaultdict(list)
    for line in lines:
        by_seed[int(line["seed"])].append(line)
    found = [] if by_seed else ["there are no lines"]
    for seed, of_seed in sorted(by_seed.items()):
        found += [f"seed {seed}: {fault}" for fault in _faults_of_seed(trace, of_seed)]
    return found


def allocated_percent(trace: Trace, lines: Iterable[Line]) -> dict[str, float]:
    """The allocated share of all GPUs at the end, by seed."""
    used: Counter[int] = Counter()
    for line in lines:
        used[int(line["seed"])] += len(line["gpus"]) * int(line["milli"]) if line["node"] else 0
    return {str(seed): round(100 * milli / trace.gpu_milli, 3) for seed, milli in sorted(used.items())}


def _faults_of_seed(trace: Trace, lines: Sequence[Line]) -> Iterator[str]:
    pods = {pod.name: pod for pod in trace.pods}
    nodes = {node.name: node for node in trace.nodes}
    used: defaultdict[str, _Used] = defaultdict(_Used)
    if sorted(line["arrival"] for line in lines) != list(range(len(lines))):
        yield "arrivals are not numbered from 0 without gaps"
    unknown = [line["name"] for line in lines if line["name"] not in pods]
    if unknown:
        yield f"not in the trace: {unknown[0]}"
        return
    yield from _arrival_faults(trace, pods, lines)
    for line in lines:
        if line["node"] is None:
            continue
        if line["node"] not in nodes:
            yield f"arrival {line['arrival']}: there is no node {line['node']}"
            continue
        yield from _device_faults(pods[line["name"]], nodes[line["node"]], line)
        _add(used[line["node"]], pods[line["name"]], line)
    for name, total in used.items():
        yield from _capacity_faults(nodes[name], total)


def _arrival_faults(trace: Trace, pods: Mapping[str, TracePod], lines: Sequence[Line]) -> Iterator[str]:
    """Faults of the arrivals: first each pod of the trace once, then random pods up to the target load."""
    names = [line["name"] for line in sorted(lines, key=lambda line: int(line["arrival"]))]
    if sorted(names[: len(pods)]) != sorted(pods):
        yield "the first arrivals are not all pods of the trace, each once"
    total = sum(pods[name].shape.gpu_milli for name in names)
    largest = max(pod.shape.gpu_milli for pod in pods.values())
    over, under = TARGET_LOAD
    if len(names) > len(pods) and total * under > trace.gpu_milli * over:
        yield f"the arrivals request {total} milli-GPU, more than {over / under:g} of the cluster"
    if (total + largest) * under <= trace.gpu_milli * over:
        yield f"the arrivals request {total} milli-GPU, so any further pod would stay below the target"


def _device_faults(pod: TracePod, node: TraceNode, line: Line) -> Iterator[str]:
    where, gpus = f"arrival {line['arrival']} on {node.name}", line["gpus"]
    if len(set(gpus)) != len(gpus) or len(gpus) != pod.shape.gpu_device_count:
        yield f"{where}: devices {gpus} for a request of {pod.shape.gpu_device_count}"
    if any(not 0 <= index < node.gpu_count for index in gpus):
        yield f"{where}: devices {gpus} of {node.gpu_count}"
    if int(line["milli"]) != pod.shape.gpu_milli_per_device:
        yield f"{where}: {line['milli']} milli-GPU a device instead of {pod.shape.gpu_milli_per_device}"
    if pod.shape.gpu_models and node.gpu_model not in pod.shape.gpu_models:
        yield f"{where}: model {node.gpu_model} is not one of {', '.join(pod.shape.gpu_models)}"


def _add(used: _Used, pod: TracePod, line: Line) -> None:
    used.cpu += pod.shape.cpu_milli
    used.ram += pod.shape.ram_mib
    for index in line["gpus"]:
        used.gpu[int(index)] += int(line["milli"])


def _capacity_faults(node: TraceNode, used: _Used) -> Iterator[str]:
    if used.cpu > node.cpu_milli:
        yield f"{node.name}: {used.cpu} of {node.cpu_milli} milli-CPU"
    if used.ram > node.ram_mib:
        yield f"{node.name}: {used.ram} of {node.ram_mib} MiB"
    for index, milli in sorted(used.gpu.items()):
        if milli > WHOLE_GPU:
            yield f"{node.name}: {milli} of {WHOLE_GPU} milli-GPU on device {index}"


def _invalid(lines: Sequence[Line]) -> list[Line]:
    """The lines with one pod moved to a device that is already full."""
    placed = [line for line in lines if line["gpus"] and line["milli"] == WHOLE_GPU]
    chosen, other = random.Random(1).sample(placed, 2)
    return [
        {**line, "node": other["node"], "gpus": other["gpus"]} if line is chosen else line for line in lines
    ]


def _read(path: Path) -> list[Line]:
    try:
        return [json.loads(text) for text in path.read_text().splitlines() if text.strip()]
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}") from None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check the placements that benchmarks.openb wrote.")
    parser.add_argument("--nodes", type=Path)
    parser.add_argument("--pods", type=Path)
    parser.add_argument("--placements", type=Path)
    parser.add_argument(
        "--small", action="store_true", help="a quick run: place and check the generated trace"
    )
    arguments = parser.parse_args()
    if not arguments.small and not (arguments.nodes and arguments.pods and arguments.placements):
        parser.error("set --nodes, --pods and --placements, or --small")
    return arguments


if __name__ == "__main__":
    main()
