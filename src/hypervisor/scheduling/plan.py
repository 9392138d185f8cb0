"""The decision: one pass over the queue, pure and deterministic."""

from __future__ import annotations

from functools import partial

from hypervisor.scheduling.explanation.explain import explain_unplaced
from hypervisor.scheduling.passes.cycle import run_cycle
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.budget import NullObserver, SearchObserver
from hypervisor.scheduling.repacking.pass_optimizer import optimize_placements
from hypervisor.scheduling.snapshots.snapshot import Snapshot


def plan(snapshot: Snapshot, policy: Policy | None = None, observer: SearchObserver | None = None) -> Plan:
    """Decide what starts now, what is evicted for it, and why the rest waits.

    The nine steps are in `passes/cycle.py`. The same snapshot and policy give the same plan, whatever the
    order of the rows of the tables. `observer` is called for each stage of the search that rearranges
    placements. Raises SolverNotInstalled if the policy's solver is not installed.
    """
    optimize = partial(optimize_placements, observer=observer or NullObserver())
    return run_cycle(PassState(snapshot, policy or Policy()), optimize, explain_unplaced)
