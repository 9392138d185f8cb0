"""A search for preemption loops, useless or illegal evictions, and priority inversions.

    python -m benchmarks.loops --workloads 10000 --seed 1

Random jobs arrive on a small cluster for a minute of virtual time. Each plan is applied, and victims are
queued again after their grace period. Then arrivals and ends stop. The last evictions may still be in
progress, and their victims may preempt others; after that no job may be preempted. These are faults:

- a preemption after the stop by a job that has already preempted and was not evicted since (a loop), or
  without any change;
- a useless eviction: the victim could have stayed, or the preemptor never ran;
- an illegal eviction: the victim has no strictly lower priority, is not preemptible, is protected or is
  releasing;
- an inversion: a waiting job that could start after evictions of strictly lower priority on one node;
- an overcommitted node.

All counts must be 0, else the exit status is 1. `--only SEED` runs one workload again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from benchmarks.support.audit import Audit
from benchmarks.support.report import print_report
from benchmarks.support.virtual_cluster import VirtualCluster, random_cluster
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy

_MOST_PASSES = 2_000
_SHOWN = 50


def main() -> None:
    """Run the workloads and print the counts."""
    arguments = _parse()
    first = arguments.seed * 1_000_000
    seeds = [arguments.only] if arguments.only is not None else range(first, first + arguments.workloads)
    started = time.perf_counter()
    total: Counter[str] = Counter()
    failing = []
    for seed in seeds:
        audit = run_workload(seed)
        total.update(audit.counts)
        if audit.faults:
            failing.append(seed)
    print_report(
        "loops",
        {
            "workloads": len(seeds),
            "passes": total["passes"],
            "evictions": total["evictions"],
            "in_flight_after_stop": total["in_flight"],
            **{name: total[name] for name in Audit.FAULTS},
            "failing": len(failing),
            "failing_seeds": failing[:_SHOWN],
            "seconds": round(time.perf_counter() - started, 2),
        },
    )
    sys.exit(1 if failing else 0)


def run_workload(seed: int) -> Audit:
    """Run one workload from the first arrival until there are no more events."""
    cluster = random_cluster(random.Random(seed))
    audit = Audit(cluster)
    while cluster.advance():
        settle(cluster, audit)
        if audit.counts["passes"] > _MOST_PASSES:
            audit.counts["preemptions_after_stop"] += 1
            return audit
    cluster.now += 1e6
    at_rest = plan(cluster.snapshot(), Policy())
    audit.counts["preemptions_after_stop"] += len(at_rest.evictions)
    audit.at_rest()
    return audit


def settle(cluster: VirtualCluster, audit: Audit) -> None:
    """Plan and apply at the present time until the plan is empty."""
    while True:
        decided = plan(cluster.snapshot(), Policy())
        audit.counts["passes"] += 1
        audit.before(decided)
        cluster.apply(decided)
        audit.after()
        if (not decided.placements and not decided.evictions) or audit.counts["passes"] > _MOST_PASSES:
            return


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search for loops, useless evictions and inversions.")
    parser.add_argument("--workloads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run the workload with this seed only")
    parser.add_argument("--small", action="store_true", help="a quick run: 100 workloads")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.workloads = 100
    return arguments


if __name__ == "__main__":
    main()
