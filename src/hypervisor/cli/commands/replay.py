"""`hypervisor replay`: run a stored decision of the scheduler again and compare the plans."""

from __future__ import annotations

import base64
from typing import Annotated

import typer
from rich.text import Text

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import clock
from hypervisor.cli.core.session import Session
from hypervisor.client.scheduler_models import Decision
from hypervisor.scheduling.decision_codec.encoding import UnreadableSnapshot
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled
from hypervisor.scheduling.replay import Replay
from hypervisor.scheduling.replay import replay as replay_snapshot


def replay(
    context: typer.Context,
    decision: Annotated[
        int, typer.Argument(metavar="DECISION", help="Decision id, from `hypervisor decisions`.")
    ],
) -> None:
    """Run a stored decision again on its snapshot, on this machine; fail when the plan differs."""
    session = Session.of(context)
    stored = session.client.clusters.decision(decision, snapshot=True)
    blob = base64.b64decode(stored["snapshot"] or "")
    try:
        replayed = replay_snapshot(blob, stored["snapshot_hash"], stored["plan_hash"])
    except UnreadableSnapshot as error:
        raise CommandFailed(f"cannot read the snapshot of decision {decision}: {error}") from None
    except SolverNotInstalled as error:
        raise CommandFailed(f"cannot replay decision {decision} on this machine: {error}") from None
    session.show(_summary(stored, replayed), *_lines(stored, replayed))
    if not replayed.intact:
        raise CommandFailed(f"decision {decision}: the snapshot does not match its stored hash")
    if not replayed.equal:
        raise CommandFailed(f"decision {decision}: the plan differs")


def _summary(stored: Decision, replayed: Replay) -> dict[str, object]:
    plan = replayed.plan
    return {
        "decision": stored["id"],
        "equal": replayed.equal,
        "intact": replayed.intact,
        "plan_hash": stored["plan_hash"],
        "replayed_plan_hash": replayed.plan_hash,
        "placements": [[placement.deployment_id, placement.node_id] for placement in plan.placements],
        "evictions": [[eviction.deployment_id, eviction.preemptor_id] for eviction in plan.evictions],
        "nominations": [[nomination.deployment_id, nomination.node_id] for nomination in plan.nominations],
    }


def _lines(stored: Decision, replayed: Replay) -> list[Text]:
    plan, nodes = replayed.plan, replayed.snapshot.nodes
    names = dict(zip(nodes.id.tolist(), nodes.name, strict=True))
    verdict = ("equal", "bold green") if replayed.equal else ("different", "bold red")
    details = f" at {clock(stored['at'])}, plan {replayed.plan_hash[:12]}"
    lines = [Text.assemble(f"decision {stored['id']}: ", verdict, details)]
    for placement in plan.placements:
        lines.append(Text(f"  starts     deployment {placement.deployment_id} on {names[placement.node_id]}"))
    for eviction in plan.evictions:
        lines.append(
            Text(f"  evicts     deployment {eviction.deployment_id} for deployment {eviction.preemptor_id}")
        )
    for nomination in plan.nominations:
        lines.append(
            Text(f"  nominates  {names[nomination.node_id]} for deployment {nomination.deployment_id}")
        )
    lines.append(Text(f"  waiting    {len(plan.unplaced)}"))
    return lines
