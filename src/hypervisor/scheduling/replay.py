"""Replay of a stored decision: `plan()` on the stored snapshot, compared bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.scheduling.decision_codec.encoding import decode, digest_of, plan_digest
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.snapshots.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Replay:
    """`intact`: the snapshot has the stored hash. `equal`: the plan has the stored hash."""

    snapshot: Snapshot
    plan: Plan
    plan_hash: str
    intact: bool
    equal: bool


def replay(blob: bytes, snapshot_hash: str, plan_hash: str) -> Replay:
    """Compute the plan for a stored snapshot again.

    Raises UnreadableSnapshot for a snapshot of another version, and SolverNotInstalled.
    """
    snapshot, policy = decode(blob)
    decided = plan(snapshot, policy)
    again = plan_digest(decided)
    return Replay(snapshot, decided, again, digest_of(blob) == snapshot_hash, again == plan_hash)
