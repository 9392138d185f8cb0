"""The time of one scheduling pass (`plan()`) on a synthetic cluster.

`python -m benchmarks.decisions --queue 10000 --nodes 1000` measures several passes on one snapshot and
reports the median. On a shared machine compare the CPU time. The sentences of the reasons are built lazily;
the time to build all of them is reported separately.

`--growth` repeats the scenario with queues of 1,000 to 100,000 deployments and with 100 to 10,000 nodes, each
point in a separate process. It reports the exponents with which time and memory grow.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import time

from benchmarks.support.growth import Point, measure_growth, run_in_process
from benchmarks.support.report import print_report
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.registry import policy_names
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot

_LOW, _MEDIUM, _HIGH = 100, 500, 750
_GPU_REQUESTS = (0, 0, 100, 200, 250, 300, 400, 500, 600, 750, 1000, 1000, 1000, 1000, 2000, 4000, 8000)
_NOW = 1_000_000.0


def main() -> None:
    """Measure one scenario and print the report."""
    arguments = _parse()
    if arguments.growth:
        _print_growth(arguments)
        return
    started = time.perf_counter()
    snapshot = _snapshot(arguments)
    built = time.perf_counter() - started
    policy = Policy(placement=arguments.placement)
    times, cpu_times, decided = _measure(snapshot, policy, arguments.repeat)
    seconds = statistics.median(times)
    cpu_seconds = statistics.median(cpu_times)
    decisions = len(decided.placements) + len(decided.nominations)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print_report(
        "decisions",
        {
            "scenario": _scenario(arguments),
            "queue": arguments.queue,
            "nodes": arguments.nodes,
            "shapes": len(snapshot.shapes),
            "placement": arguments.placement,
            "pass_seconds": round(seconds, 4),
            "pass_seconds_all": [round(value, 4) for value in times],
            "pass_cpu_seconds": round(cpu_seconds, 4),
            "pass_cpu_seconds_all": [round(value, 4) for value in cpu_times],
            "reasons_cpu_seconds": round(_time_reasons(decided), 4),
            "snapshot_build_seconds": round(built, 4),
            "placed": len(decided.placements),
            "nominated": len(decided.nominations),
            "evictions": len(decided.evictions),
            "unplaced": len(decided.unplaced),
            "placements_per_second": round(decisions / seconds),
            "placements_per_cpu_second": round(decisions / cpu_seconds),
            "peak_memory_mib": peak,
        },
    )


def _print_growth(arguments: argparse.Namespace) -> None:
    """Measure the scenario at growing sizes; with `--small`, a tenth of each size."""
    flags = ["--shapes", arguments.shapes, "--placement", arguments.placement]
    flags += ["--repeat", str(arguments.repeat), "--seed", str(arguments.seed)]
    flags += [f"--{name}" for name in ("preempting", "idle") if getattr(arguments, name)]
    divisor = 10 if arguments.small else 1

    def run(point: Point) -> dict[str, object]:
        sizes = ["--queue", str(point.queue), "--nodes", str(point.nodes)]
        return run_in_process(["benchmarks.decisions", *sizes, *flags])

    queues = [Point(size // divisor, 1_000 // divisor) for size in (1_000, 10_000, 100_000)]
    nodes = [Point(10_000 // divisor, size // divisor) for size in (100, 1_000, 10_000)]
    print_report(
        "decisions-growth",
        {
            "scenario": _scenario(arguments),
            "shapes": arguments.shapes,
            "by_queue": measure_growth(queues, run, lambda point: point.queue),
            "by_nodes": measure_growth(nodes, run, lambda point: point.nodes),
        },
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the time of a scheduling pass.")
    parser.add_argument("--queue", type=int, default=10_000, help="pending deployments")
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument(
        "--shapes",
        default="91",
        help="number of distinct requests (default 91), or 'distinct' for one per deployment",
    )
    parser.add_argument("--placement", choices=policy_names(), default="fgd")
    parser.add_argument("--preempting", action="store_true", help="nodes full of low-priority work")
    parser.add_argument("--idle", action="store_true", help="nothing fits: a pass without placements")
    parser.add_argument(
        "--growth", action="store_true", help="measure growing queues, then growing node counts"
    )
    parser.add_argument("--small", action="store_true", help="a quick run: 1,000 queued on 100 nodes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.queue, arguments.nodes = 1_000, 100
    return arguments


def _scenario(arguments: argparse.Namespace) -> str:
    if arguments.idle:
        return "idle"
    return "preempting" if arguments.preempting else "filling"


def _measure(snapshot: Snapshot, policy: Policy, repeat: int) -> tuple[list[float], list[float], Plan]:
    """Wall-clock seconds and CPU seconds per pass, and the last plan."""
    times, cpu_times = [], []
    for _ in range(repeat):
        gc.collect()
        started, cpu_started = time.perf_counter(), time.process_time()
        decided = plan(snapshot, policy)
        times.append(time.perf_counter() - started)
        cpu_times.append(time.process_time() - cpu_started)
    return times, cpu_times, decided


def _time_reasons(decided: Plan) -> float:
    started = time.process_time()
    for waiting in decided.unplaced:
        assert waiting.reason.sentence
    return time.process_time() - started


def _snapshot(arguments: argparse.Namespace) -> Snapshot:
    rng = random.Random(arguments.seed)
    builder = SnapshotBuilder(_NOW)
    for node in range(arguments.nodes):
        builder.add_node(node, cpu_milli=96_000, ram_mib=524_288, gpu_count=8)
        if arguments.idle or arguments.preempting:
            _fill(builder, node, _HIGH + 50 if arguments.idle else _LOW, rng)
    shapes = _shapes(arguments, rng)
    for number in range(arguments.queue):
        builder.add_pending(
            number,
            shapes[number] if arguments.shapes == "distinct" else rng.choice(shapes),
            priority=_HIGH if arguments.preempting else rng.choice((_LOW, _MEDIUM, _HIGH)),
            created_at=_NOW - rng.randrange(100_000),
        )
    return builder.build()


def _fill(builder: SnapshotBuilder, node: int, priority: int, rng: random.Random) -> None:
    """Add four allocations that fill the node."""
    for part in range(4):
        builder.add_allocation(
            node * 4 + part,
            deployment_id=1_000_000 + node * 4 + part,
            node_id=node,
            cpu_milli=24_000,
            ram_mib=131_072,
            gpu_indices=(2 * part, 2 * part + 1),
            priority=priority,
            started_at=_NOW - rng.randrange(1, 100_000),
        )


def _shapes(arguments: argparse.Namespace, rng: random.Random) -> list[Shape]:
    """Distinct requests of about 4 cores and 16 GB per GPU."""
    count = arguments.queue if arguments.shapes == "distinct" else int(arguments.shapes)
    found: dict[Shape, None] = {}
    while len(found) < count:
        gpu = rng.choice(_GPU_REQUESTS)
        scale = max(gpu, 500)
        cpu = rng.randrange(1, 9) * scale if count < 1_000 else rng.randrange(scale, 9 * scale)
        ram = rng.randrange(1, 9) * 4 * scale if count < 1_000 else rng.randrange(4 * scale, 32 * scale)
        found[Shape(cpu, ram, gpu)] = None
    return list(found)


if __name__ == "__main__":
    main()
