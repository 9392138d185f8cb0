"""The options of `hypervisor simulate`, by parameter name."""

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
    Path | None, typer.Option("--workload", "-w", metavar="FILE", help="CSV file with the jobs.")
]
FileFormat = Annotated[
    Format, typer.Option("--format", help="Format of the workload file; auto detects it by the columns.")
]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--nodes",
        "-n",
        metavar="FILE|SPEC|CHANGE",
        help="Node list file, or nodes such as 100x8gpu,64cpu,512gb. Repeatable. A change such as +10% or -4 "
        "applies to a second run, for comparison.",
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        **one_of(policy_names),
        help=f"Placement policy; default: the cluster's own with --from-history, else {policy_names()[0]}.",
    ),
]
QuotaFile = Annotated[
    Path | None,
    typer.Option("--quotas", metavar="FILE", help="CSV file with the quota of each organization."),
]
Versus = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help=f"Add a second run with this change: {', '.join(policy_names())}, improve, exact, no-improve, "
        "no-preemption, no-quotas, or several with commas.",
    ),
]
OptimizerSteps = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1_000_000,
        metavar="STEPS",
        help="Optimizer steps after each pass, to place more deployments; default 0, no optimizer.",
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(
        **one_of(solver_names),
        help="Optimizer: search (default), or exact, which adds a solver after the search. Both imply 20,000 "
        "steps when --optimizer-steps is not set.",
    ),
]
NoPreemption = Annotated[bool, typer.Option("--no-preemption", help="Switch preemption off.")]
Grace = Annotated[
    float,
    typer.Option(
        min=0.0, metavar="SECONDS", help="Seconds that a victim holds its capacity after its eviction."
    ),
]
MinRuntime = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="Seconds that each run is safe from eviction; default: the cluster's own with --from-history, "
        "else 0.",
    ),
]
PreemptionBudget = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Preemptions of a job within an hour after which it is safe for half an hour; 0 switches this "
        "off. Default: the cluster's own with --from-history, else 0.",
    ),
]
Load = Annotated[
    float, typer.Option(help="Factor for the number of jobs: 1.2 repeats a fifth, 0.5 drops half.")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of --load.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Number of arrivals to use; default: all.")]
Until = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="HOURS", help="Virtual hours to simulate; default: until all jobs end."),
]
FromHistory = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER", help="Use the jobs and nodes of this cluster (name or id) of the server."
    ),
]
Days = Annotated[float, typer.Option(min=0.01, help="Days of history for --from-history.")]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write the figures as JSON; - writes to stdout."),
]
HtmlFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as an HTML page.")]
