"""GPU allocation with the protocol of the FGD paper on an openb trace.

    python -m benchmarks.openb --nodes FILE --pods FILE --seeds 42,43 --placements OUT.jsonl

Each arrival is decided by one call of `plan()`; no pod ends. A pod that fits on no node is dropped. With
`--priority` the QoS class is the priority, and lower priorities may be evicted. At the end, dropped and
evicted pods are tried once more, in queue order. `random` is a baseline of this benchmark: a random node that
fits, then random devices of the node.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.openb_trace import Trace, arrivals, generated_trace, read_trace, typical_requests
from benchmarks.support.report import print_report
from benchmarks.support.trace_replay import Outcome, PlanScheduler, RandomScheduler, Replay, Scheduler
from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.registry import policy_names

_RANDOM = "random"
_TOP_CLASS = "LS"


def main() -> None:
    """Replay the seeds, write the placements, print the figures."""
    arguments = _parse()
    trace = load_trace(arguments.nodes, arguments.pods)
    lines: list[str] = []
    figures = []
    for seed in arguments.seeds:
        outcome = run(trace, seed, arguments.policy, arguments.priority, arguments.gap)
        lines += [json.dumps(line) for line in placement_lines(outcome, seed)]
        figures.append({"seed": seed, **figures_of(outcome)})
        print(f"seed {seed}: {json.dumps(figures[-1])}", file=sys.stderr, flush=True)
    if arguments.placements:
        arguments.placements.write_text("".join(f"{line}\n" for line in lines))
    print_report(
        "openb",
        {
            "protocol": "openb-130-priority" if arguments.priority else "openb-130",
            "policy": arguments.policy,
            "trace": arguments.pods.name if arguments.pods else "generated",
            "nodes": len(trace.nodes),
            "gpus": trace.gpu_milli // WHOLE_GPU,
            "look_ahead": False,
            "gap_seconds": arguments.gap,
            "mean": _means(figures),
            "seeds": figures,
        },
    )


def load_trace(nodes: Path | None, pods: Path | None) -> Trace:
    """Read the files, or generate a trace without files. Exits with a message if a file cannot be read."""
    if not nodes or not pods:
        return generated_trace()
    try:
        return read_trace(nodes, pods)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


def run(trace: Trace, seed: int, policy: str, priority: bool, gap: float = 1.0) -> Outcome:
    """Replay one seed of the trace, with `gap` seconds between arrivals."""
    nodes, pods = arrivals(trace, seed)
    scheduler: Scheduler
    if policy == _RANDOM:
        scheduler = RandomScheduler(seed)
    else:
        placement = policy
        typical = typical_requests(trace.pods)
        scheduler = PlanScheduler(Policy(placement=placement, preemption=priority, target_workload=typical))
    return Replay(nodes, pods, scheduler, gap).run(priority)


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """The figures of the protocol for one seed; shares in percent."""
    placed = [arrival for arrival in outcome.arrivals if arrival.pod_placement]
    top = [arrival for arrival in outcome.arrivals if arrival.pod.qos == _TOP_CLASS]
    requested = sum(arrival.pod.shape.gpu_milli for arrival in top)
    allocated = sum(arrival.pod.shape.gpu_milli for arrival in top if arrival.pod_placement)
    capacity = WHOLE_GPU * sum(node.gpu_count for node in outcome.nodes)
    milliseconds = sorted(1000 * seconds for seconds in outcome.decision_seconds)
    return {
        "arrivals": len(outcome.arrivals),
        "allocated_percent": _percent(sum(arrival.pod.shape.gpu_milli for arrival in placed), capacity),
        "pods_placed_percent": _percent(len(placed), len(outcome.arrivals)),
        "ls_gpu_placed_percent": _percent(allocated, requested),
        "evictions": sum(arrival.evictions for arrival in outcome.arrivals),
        "decision_ms_mean": round(statistics.fmean(milliseconds), 3),
        "decision_ms_p50": round(statistics.median(milliseconds), 3),
        "decision_ms_p99": round(milliseconds[len(milliseconds) * 99 // 100], 3),
    }


def placement_lines(outcome: Outcome, seed: int) -> list[dict[str, Any]]:
    """The final state of each arrival, so that `openb_check` can check every placement against the trace."""
    return [
        {
            "seed": seed,
            "arrival": number,
            "name": arrival.pod.name,
            "node": outcome.nodes[arrival.pod_placement.node_id - 1].name if arrival.pod_placement else None,
            "gpus": list(arrival.pod_placement.devices) if arrival.pod_placement else [],
            "milli": arrival.pod.shape.gpu_milli_per_device,
            "evictions": arrival.evictions,
        }
        for number, arrival in enumerate(outcome.arrivals)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay an openb trace as the FGD paper does.")
    parser.add_argument(
        "--nodes", type=Path, help="openb node list; without files a small generated trace is used"
    )
    parser.add_argument("--pods", type=Path, help="openb pod list")
    parser.add_argument("--seeds", type=_seeds, default=[42], help="like 42,43 or 42-51")
    parser.add_argument("--policy", choices=[*policy_names(), _RANDOM], default="fgd")
    parser.add_argument("--priority", action="store_true", help="QoS classes are priorities; preemption")
    parser.add_argument(
        "--gap",
        type=float,
        default=1.0,
        help="seconds between arrivals, which determine the lost work (default 1)",
    )
    parser.add_argument("--placements", type=Path, help="file for one JSON line per arrival")
    parser.add_argument("--small", action="store_true", help="a quick run: the generated trace, two seeds")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.nodes = arguments.pods = None
        arguments.seeds = [42, 43]
    elif not arguments.nodes or not arguments.pods:
        parser.error("set --nodes and --pods, or --small")
    if arguments.policy == _RANDOM and arguments.priority:
        parser.error("the policy random does not preempt: drop --priority")
    return arguments


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _means(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = [name for name in figures[0] if name != "seed"]
    return {name: round(statistics.fmean(float(of_seed[name]) for of_seed in figures), 3) for name in names}


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


if __name__ == "__main__":
    main()
