"""`hypervisor decisions` and `hypervisor replay`: what the scheduler decided, and whether it would again."""

from __future__ import annotations

import base64
from typing import Annotated

import typer
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import clock
from hypervisor.cli.core.output import table
from hypervisor.cli.core.session import Session
from hypervisor.client.scheduler_models import Decision
from hypervisor.scheduling.decision_codec.encoding import UnreadableSnapshot
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled
from hypervisor.scheduling.replay import Replay
from hypervisor.scheduling.replay import replay as decide_again


def decisions(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="The latest so many.")] = 20,
) -> None:
    """Passes of the scheduler that changed something, newest first."""
    session = Session.of(context)
    found = session.client.clusters.decisions(resolve.cluster(session, cluster)["id"], most=limit)
    columns = [">id", "at", ">placed", ">evicted", ">nominated", ">waiting", "snapshot", "plan"]
    rows = [
        (
            each["id"],
            clock(each["at"]),
            each["placements"],
            each["evictions"],
            each["nominations"],
            each["waiting"],
            each["snapshot_hash"][:12],
            each["plan_hash"][:12],
        )
        for each in found
    ]
    session.show(found, table(columns, rows))


def replay(
    context: typer.Context,
    decision: Annotated[int, typer.Argument(metavar="DECISION", help="Its id; see `hypervisor decisions`.")],
) -> None:
    """Decide again, here, on the snapshot that a decision was made from; fails when the plan differs."""
    session = Session.of(context)
    stored = session.client.clusters.decision(decision, snapshot=True)
    blob = base64.b64decode(stored["snapshot"] or "")
    try:
        again = decide_again(blob, stored["snapshot_hash"], stored["plan_hash"])
    except UnreadableSnapshot as error:
        raise CommandFailed(f"the snapshot of decision {decision} cannot be read: {error}") from None
    except SolverNotInstalled as error:
        raise CommandFailed(f"decision {decision} cannot be replayed here: {error}") from None
    session.show(_summary(stored, again), *_lines(stored, again))
    if not (again.intact and again.equal):
        what = "the plan differs" if again.intact else "the snapshot is not the one that was hashed"
        raise CommandFailed(f"decision {decision}: {what}")


def _summary(stored: Decision, again: Replay) -> dict[str, object]:
    return {
        "decision": stored["id"],
        "equal": again.equal,
        "intact": again.intact,
        "plan_hash": stored["plan_hash"],
        "replayed_plan_hash": again.plan_hash,
        "placements": [[one.deployment_id, one.node_id] for one in again.plan.placements],
        "evictions": [[one.deployment_id, one.preemptor_id] for one in again.plan.evictions],
        "nominations": [[one.deployment_id, one.node_id] for one in again.plan.nominations],
    }


def _lines(stored: Decision, again: Replay) -> list[Text]:
    names = dict(zip(again.snapshot.nodes.id.tolist(), again.snapshot.nodes.name, strict=True))
    verdict = ("equal", "bold green") if again.equal else ("different", "bold red")
    told = f" at {clock(stored['at'])}, plan {again.plan_hash[:12]}"
    lines = [Text.assemble(f"decision {stored['id']}: ", verdict, told)]
    for placed in again.plan.placements:
        lines.append(Text(f"  starts     deployment {placed.deployment_id} on {names[placed.node_id]}"))
    for evicted in again.plan.evictions:
        lines.append(
            Text(f"  gives way  deployment {evicted.deployment_id} to deployment {evicted.preemptor_id}")
        )
    for kept in again.plan.nominations:
        lines.append(Text(f"  keeps      {names[kept.node_id]} for deployment {kept.deployment_id}"))
    lines.append(Text(f"  waiting    {len(again.plan.unplaced)}"))
    return lines
