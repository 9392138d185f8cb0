"""The settings of a cluster: the options that set them, and their rows in `cluster show`."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.client.models import Cluster
from hypervisor.scheduling.policy import DEFAULT_OPTIMIZER_STEPS
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.scheduling.scoring.registry import policy_names
from hypervisor.scheduling.snapshots.wording import listed

_POLICY = f"Placement policy: {listed(policy_names(), 'or')}"
_STEPS = "Optimizer steps after each pass, to place more deployments"
_SOLVER = f"Optimizer: {listed(solver_names(), 'or')}"
_EXACT = f"exact adds a solver after the search, and {DEFAULT_OPTIMIZER_STEPS:,} steps where none are set."
_PREEMPTION = "Whether a higher priority may evict a lower one"
_MIN_RUNTIME = "Seconds that each run is safe from preemption"
_BUDGET = "Preemptions within the window after which a deployment is safe for the cooldown; 0: no such limit"

PlacementPolicy = Annotated[str | None, typer.Option(help=f"{_POLICY}.")]
OptimizerSteps = Annotated[int | None, typer.Option(metavar="STEPS", help=f"{_STEPS}; 0: no optimizer.")]
Solver = Annotated[str | None, typer.Option(help=f"{_SOLVER}. {_EXACT}")]
Preemption = Annotated[bool | None, typer.Option("--preemption/--no-preemption", help=f"{_PREEMPTION}.")]
MinRuntime = Annotated[int | None, typer.Option("--min-runtime", help=f"{_MIN_RUNTIME}.")]
PreemptionBudget = Annotated[int | None, typer.Option(metavar="N", help=f"{_BUDGET}.")]
PreemptionWindow = Annotated[
    int | None, typer.Option(metavar="SECONDS", help="Window of the preemption budget, at least 1.")
]
PreemptionCooldown = Annotated[
    int | None, typer.Option(metavar="SECONDS", help="Cooldown after the preemption budget is used up.")
]

# The same options of `cluster create`, with the defaults.
NewPlacementPolicy = Annotated[str | None, typer.Option(help=f"{_POLICY}; the first is the default.")]
NewOptimizerSteps = Annotated[
    int | None, typer.Option(metavar="STEPS", help=f"{_STEPS}; default 0, no optimizer.")
]
NewSolver = Annotated[str | None, typer.Option(help=f"{_SOLVER}; the first is the default. {_EXACT}")]
NewPreemption = Annotated[
    bool | None, typer.Option("--preemption/--no-preemption", help=f"{_PREEMPTION}; default on.")
]
NewMinRuntime = Annotated[int | None, typer.Option("--min-runtime", help=f"{_MIN_RUNTIME}; default 0.")]
NewPreemptionBudget = Annotated[int | None, typer.Option(metavar="N", help=f"{_BUDGET}; default 5.")]
NewPreemptionWindow = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", help="Window of the preemption budget, at least 1; default 3600."),
]
NewPreemptionCooldown = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", help="Cooldown after the preemption budget is used up; default 1800."),
]


def settings_facts(cluster: Cluster) -> list[tuple[str, str | None]]:
    """The rows of `cluster show` about the settings."""
    minimum = cluster.get("min_runtime_seconds")
    return [
        ("Placement", cluster.get("placement_policy")),
        ("Optimizer", _optimizer(cluster)),
        ("Preemption", "on" if cluster.get("preemption") else "off"),
        ("Min runtime", f"{minimum} s" if minimum else ""),
        ("Budget", _budget(cluster)),
    ]


def _optimizer(cluster: Cluster) -> str:
    steps, solver = cluster.get("optimizer_steps", 0), cluster.get("solver", "search")
    return f"{solver}, up to {steps:,} steps per pass" if steps else f"off (solver {solver}, 0 steps)"


def _budget(cluster: Cluster) -> str:
    budget = cluster.get("preemption_budget")
    if not budget:
        return "none" if budget == 0 else ""
    times = f"{budget} preemption{'' if budget == 1 else 's'}"
    window, cooldown = (
        cluster.get("preemption_window_seconds"),
        cluster.get("preemption_cooldown_seconds"),
    )
    return f"safe for {cooldown} s after {times} within {window} s"
