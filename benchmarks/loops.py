"""Whether preemption ever goes round in circles, is useless or leaves somebody out.

    python -m benchmarks.loops --workloads 10000 --seed 1

Random work arrives on a small cluster for a minute of virtual time; each plan is applied, victims wait again
after their grace. Then nothing arrives or ends any more. The last evictions may be under way, and their
victims may have to preempt in turn; from then on nobody may be preempted. Counted as faults:

- preemptions after the stop by one that has already preempted and not been evicted since (a loop), or while
  nothing can have changed;
- useless evictions: a victim that could have stayed, or a preemptor that never ran;
- illegal evictions: not strictly lower, not preemptible, protected or already leaving;
- inversions: a waiting one that evicting strictly lower ones on one node would admit;
- overcommitted nodes.

All must be 0; ends with status 1 otherwise. `--only SEED` runs one failing workload again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from benchmarks.support.audit import Audit
from benchmarks.support.report import print_report
from benchmarks.support.virtual_cluster import World, random_world
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
    """One world from the first arrival until nothing happens any more."""
    world = random_world(random.Random(seed))
    audit = Audit(world)
    while world.advance():
        settle(world, audit)
        if audit.counts["passes"] > _MOST_PASSES:
            audit.counts["preemptions_after_stop"] += 1
            return audit
    world.now += 1e6
    at_rest = plan(world.snapshot(), Policy())
    audit.counts["preemptions_after_stop"] += len(at_rest.evictions)
    audit.at_rest()
    return audit


def settle(world: World, audit: Audit) -> None:
    """Plan and apply at this moment until the plan has nothing more to say."""
    while True:
        decided = plan(world.snapshot(), Policy())
        audit.counts["passes"] += 1
        audit.before(decided)
        world.apply(decided)
        audit.after()
        if (not decided.placements and not decided.evictions) or audit.counts["passes"] > _MOST_PASSES:
            return


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look for loops, useless evictions and inversions.")
    parser.add_argument("--workloads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this one workload")
    parser.add_argument("--small", action="store_true", help="a quick run: 100 workloads")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.workloads = 100
    return arguments


if __name__ == "__main__":
    main()
