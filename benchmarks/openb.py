"""How much of a GPU cluster gets used: the FGD paper's protocol on an openb trace.

    python -m benchmarks.openb --nodes FILE --pods FILE --seeds 42,43 --placements OUT.jsonl

Every arrival is decided on by its own call of the scheduler's `plan()`; nothing ever ends. A pod that fits
nowhere is dropped. With `--priority` the QoS class is the priority and lower ones may be evicted; at the end
whoever was dropped or evicted is tried once more, in queue order. `random` is a baseline that exists only
here: a uniform choice among the nodes that fit, then among their devices.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.openb_trace import Trace, arrivals, made_up_trace, read_trace, typical_requests
from benchmarks.support.report import print_report
from benchmarks.support.trace_replay import Outcome, PlanPlayer, Player, RandomPlayer, Replay
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
            "trace": arguments.pods.name if arguments.pods else "made up",
            "nodes": len(trace.nodes),
            "gpus": trace.gpu_milli // WHOLE_GPU,
            "look_ahead": False,
            "gap_seconds": arguments.gap,
            "mean": _means(figures),
            "seeds": figures,
        },
    )


def load_trace(nodes: Path | None, pods: Path | None) -> Trace:
    """The files, or the made-up trace where none are given; ends the program if they cannot be read."""
    if not nodes or not pods:
        return made_up_trace()
    try:
        return read_trace(nodes, pods)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


def run(trace: Trace, seed: int, policy: str, priority: bool, gap: float = 1.0) -> Outcome:
    """Replay one seed of the trace, with `gap` seconds between arrivals."""
    nodes, pods = arrivals(trace, seed)
    player: Player
    if policy == _RANDOM:
        player = RandomPlayer(seed)
    else:
        placement = policy
        typical = typical_requests(trace.pods)
        player = PlanPlayer(Policy(placement=placement, preemption=priority, target_workload=typical))
    return Replay(nodes, pods, player, gap).run(priority)


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """What the protocol asks for, of one seed; shares in per cent."""
    placed = [arrival for arrival in outcome.arrivals if arrival.spot]
    top = [arrival for arrival in outcome.arrivals if arrival.pod.qos == _TOP_CLASS]
    wanted = sum(arrival.pod.shape.gpu_milli for arrival in top)
    given = sum(arrival.pod.shape.gpu_milli for arrival in top if arrival.spot)
    capacity = WHOLE_GPU * sum(node.gpu_count for node in outcome.nodes)
    milliseconds = sorted(1000 * seconds for seconds in outcome.decision_seconds)
    return {
        "arrivals": len(outcome.arrivals),
        "allocated_percent": _percent(sum(arrival.pod.shape.gpu_milli for arrival in placed), capacity),
        "pods_placed_percent": _percent(len(placed), len(outcome.arrivals)),
        "ls_gpu_placed_percent": _percent(given, wanted),
        "evictions": sum(arrival.evictions for arrival in outcome.arrivals),
        "decision_ms_mean": round(statistics.fmean(milliseconds), 3),
        "decision_ms_p50": round(statistics.median(milliseconds), 3),
        "decision_ms_p99": round(milliseconds[len(milliseconds) * 99 // 100], 3),
    }


def placement_lines(outcome: Outcome, seed: int) -> list[dict[str, Any]]:
    """One line an arrival: its final state, so that others can check each placement against the trace."""
    return [
        {
            "seed": seed,
            "arrival": number,
            "name": arrival.pod.name,
            "node": outcome.nodes[arrival.spot.node_id - 1].name if arrival.spot else None,
            "gpus": list(arrival.spot.devices) if arrival.spot else [],
            "milli": arrival.pod.shape.gpu_milli_per_device,
            "evictions": arrival.evictions,
        }
        for number, arrival in enumerate(outcome.arrivals)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay an openb trace as the FGD paper does.")
    parser.add_argument("--nodes", type=Path, help="openb node list; without files, a small made-up trace")
    parser.add_argument("--pods", type=Path, help="openb pod list")
    parser.add_argument("--seeds", type=_seeds, default=[42], help="like 42,43 or 42-51")
    parser.add_argument("--policy", choices=[*policy_names(), _RANDOM], default="fgd")
    parser.add_argument("--priority", action="store_true", help="QoS classes are priorities; preemption")
    parser.add_argument(
        "--gap", type=float, default=1.0, help="seconds between arrivals, which is what lost work is made of"
    )
    parser.add_argument("--placements", type=Path, help="write a JSON line for each arrival here")
    parser.add_argument("--small", action="store_true", help="a quick run: the made-up trace, two seeds")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.nodes = arguments.pods = None
        arguments.seeds = [42, 43]
    elif not arguments.nodes or not arguments.pods:
        parser.error("--nodes and --pods are needed (or --small)")
    if arguments.policy == _RANDOM and arguments.priority:
        parser.error("random does not preempt; leave --priority out")
    return arguments


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _means(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = [name for name in figures[0] if name != "seed"]
    return {name: round(statistics.fmean(float(each[name]) for each in figures), 3) for name in names}


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


if __name__ == "__main__":
    main()
