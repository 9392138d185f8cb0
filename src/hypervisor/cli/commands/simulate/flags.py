"""The options of `hypervisor simulate`, each under the name of its parameter."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hypervisor.cli.core.choices import one_of
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.scheduling.scoring.registry import policy_names


class Format(StrEnum):
    AUTO = "auto"
    CSV = "csv"
    OPENB = "openb"
    PHILLY = "philly"


WorkloadFile = Annotated[
    Path | None, typer.Option("--workload", "-w", metavar="FILE", help="The jobs, as CSV.")
]
FileFormat = Annotated[Format, typer.Option("--format", help="Of the workload file.")]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--nodes",
        "-n",
        metavar="FILE|SPEC|CHANGE",
        help="A node list, or nodes like 100x8gpu,64cpu,512gb; repeatable. A change like +10% or -4 is for "
        "a second run beside the first.",
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        **one_of(policy_names),
        help=f"The placement policy: the cluster's own with --from-history, else {policy_names()[0]}.",
    ),
]
QuotaFile = Annotated[
    Path | None,
    typer.Option("--quotas", metavar="FILE", help="What each organization may use, as CSV: fair share."),
]
Versus = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help=f"For the second run: {', '.join(policy_names())}, improve, exact, no-improve, no-preemption, "
        "no-quotas, or several as a,b.",
    ),
]
Improve = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1_000_000,
        metavar="STEPS",
        help="Search so long after a pass for an arrangement that places more; 0: do not.",
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(
        **one_of(solver_names),
        help="What searches: search (default), or exact, which lets a solver go on where the search ends.",
    ),
]
NoPreemption = Annotated[bool, typer.Option("--no-preemption", help="Nobody is evicted.")]
Grace = Annotated[float, typer.Option(min=0.0, help="Seconds that a victim takes to end.")]
MinRuntime = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="Nobody is evicted before it has run so long: the cluster's own with --from-history, else 0.",
    ),
]
PreemptionBudget = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Whoever was preempted so often within an hour is left alone for half an hour; 0: never. The "
        "cluster's own with --from-history, else 0.",
    ),
]
Load = Annotated[float, typer.Option(help="Times the work: 1.2 draws a fifth of the jobs a second time.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what --load draws.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many jobs only.")]
Until = Annotated[
    float | None, typer.Option(min=0.0, metavar="HOURS", help="Stop then; else when all is done.")
]
FromHistory = Annotated[
    str | None,
    typer.Option(metavar="CLUSTER", help="Jobs and nodes of a cluster of the server, by name or id."),
]
Days = Annotated[float, typer.Option(min=0.01, help="How far back --from-history goes.")]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write the figures; - is stdout.")
]
HtmlFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report for a browser.")]
