"""The command `hypervisor simulate`: one or two runs of the scheduler in virtual time."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import ClassVar

import typer

from hypervisor.cli.commands.simulate import flags
from hypervisor.cli.commands.simulate.flags import Format
from hypervisor.cli.commands.simulate.history import RecordedWorkload, load_history
from hypervisor.cli.commands.simulate.summary import progress_of, summary
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.old_flags import WithOldFlags
from hypervisor.cli.core.output import check_writable, json_text, print_json
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.scheduling.policy import DEFAULT_OPTIMIZER_STEPS, Policy
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled, load_solvers
from hypervisor.scheduling.scoring.registry import policy_names
from hypervisor.simulation.engine import Rules
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.node_specs import NodeSpecs, is_resize, parse_node_specs, resize
from hypervisor.simulation.protection import Protection
from hypervisor.simulation.readers.nodes import read_nodes
from hypervisor.simulation.readers.quotas import read_quotas
from hypervisor.simulation.readers.scaling import scale
from hypervisor.simulation.readers.workload import Workload, open_workload
from hypervisor.simulation.report.figures import Figures, build_figures
from hypervisor.simulation.report.number_format import counted
from hypervisor.simulation.report.page import render_page
from hypervisor.simulation.scenario import Outcome, Scenario
from hypervisor.simulation.scenario import simulate as run_scenario

_IMPROVE, _EXACT, _NO_IMPROVE = "improve", "exact", "no-improve"
"""Optimizer steps when --optimizer-steps is not set."""
_NO_PREEMPTION = "no-preemption"
_NO_QUOTAS = "no-quotas"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class _WithOldFlags(WithOldFlags):
    old_flags: ClassVar = {"--improve": "--optimizer-steps", "--packer": "--solver"}


@app.command(cls=_WithOldFlags)
def simulate(
    context: typer.Context,
    workload: flags.WorkloadFile = None,
    file_format: flags.FileFormat = Format.AUTO,
    nodes: flags.Nodes = None,
    policy: flags.PolicyName = None,
    vs: flags.Versus = None,
    optimizer_steps: flags.OptimizerSteps = None,
    solver: flags.Solver = None,
    no_preemption: flags.NoPreemption = False,
    quotas: flags.QuotaFile = None,
    grace: flags.Grace = 0.0,
    min_runtime: flags.MinRuntime = None,
    preemption_budget: flags.PreemptionBudget = None,
    load: flags.Load = 1.0,
    seed: flags.Seed = 42,
    limit: flags.Limit = None,
    until: flags.Until = None,
    from_history: flags.FromHistory = None,
    days: flags.Days = 7.0,
    json_file: flags.JsonFile = None,
    html: flags.HtmlFile = None,
) -> None:
    """Run the scheduler on a workload in virtual time.

    The result has utilization, waiting times, evictions and lost work. With --vs or a node change, a second
    run is shown next to the first.
    """
    session = Session.of(context)
    check_writable(html, None if json_file in (None, "-") else Path(json_file or ""))
    node_sources = [text for text in nodes or [] if not is_resize(text)]
    resizes = [text for text in nodes or [] if is_resize(text)]
    try:
        if from_history is not None:
            recorded = load_history(session, from_history, days, limit)
        else:
            recorded = RecordedWorkload(_open(workload, file_format, limit), (), Policy())
        node_specs = _node_specs(node_sources) or recorded.nodes
        if not node_specs:
            raise CommandFailed("no nodes: set --nodes FILE, or --nodes 100x8gpu,64cpu,512gb")
        chosen = recorded.policy if policy is None else replace(recorded.policy, placement=policy)
        chosen = _with_optimizer(chosen, optimizer_steps, solver)
        if no_preemption:
            chosen = replace(chosen, preemption=False)
        rules = Rules(
            chosen,
            grace,
            inf if until is None else until * 3600,
            quotas=() if quotas is None else read_quotas(quotas),
            protection=_protection(recorded.protection, min_runtime, preemption_budget),
        )
        scenarios = _scenarios(node_specs, rules, resizes, vs)
        figures = _run(session, scale(recorded.jobs, load, seed), scenarios)
    except (WorkloadError, SolverNotInstalled) as error:
        raise CommandFailed(str(error)) from None
    _output(session, figures, json_file, html)


def _open(path: Path | None, file_format: Format, limit: int | None) -> Workload:
    if path is None:
        raise CommandFailed("no jobs: set --workload FILE, or --from-history CLUSTER")
    return open_workload(path, file_format.value, limit)


def _with_optimizer(policy: Policy, steps: int | None, solver: str | None) -> Policy:
    """The policy with --optimizer-steps and --solver. A solver without steps gets the default number."""
    if solver is not None:
        default_steps = policy.optimizer_steps or DEFAULT_OPTIMIZER_STEPS
        policy = replace(policy, solver=solver, optimizer_steps=default_steps)
    return policy if steps is None else replace(policy, optimizer_steps=steps)


def _protection(recorded: Protection, min_runtime: float | None, budget: int | None) -> Protection:
    return replace(
        recorded,
        min_runtime=recorded.min_runtime if min_runtime is None else min_runtime,
        budget=recorded.budget if budget is None else budget,
    )


def _node_specs(sources: list[str]) -> NodeSpecs:
    """The nodes of all files and specifications, in order."""
    if not all(source.strip() for source in sources):
        raise CommandFailed("--nodes is empty: set a file, or nodes such as 100x8gpu,64cpu,512gb")
    return tuple(
        node
        for source in sources
        for node in (read_nodes(Path(source)) if Path(source).exists() else parse_node_specs(source))
    )


def _scenarios(nodes: NodeSpecs, rules: Rules, resizes: list[str], vs: str | None) -> list[Scenario]:
    """The requested run, and a second one with all changes, if any."""
    first = Scenario("", nodes, rules)
    if not resizes and vs is None:
        return [replace(first, label=_label(first, nodes_differ=False))]
    resized = nodes
    for change in resizes:
        resized = resize(resized, change)
    second = replace(first, nodes=resized, rules=rules if vs is None else _changed_rules(rules, vs))
    return [
        replace(scenario, label=_label(scenario, nodes_differ=bool(resizes))) for scenario in (first, second)
    ]


def _changed_rules(rules: Rules, vs: str) -> Rules:
    policy, quotas = rules.policy, rules.quotas
    words = [word.strip() for word in vs.split(",")]
    _check_contradictions(words)
    for word in words:
        if word in policy_names():
            policy = replace(policy, placement=word)
        elif word == _IMPROVE:
            policy = replace(policy, optimizer_steps=policy.optimizer_steps or DEFAULT_OPTIMIZER_STEPS)
        elif word == _EXACT:
            steps = policy.optimizer_steps or DEFAULT_OPTIMIZER_STEPS
            policy = replace(policy, optimizer_steps=steps, solver="exact")
        elif word == _NO_IMPROVE:
            policy = replace(policy, optimizer_steps=0)
        elif word == _NO_PREEMPTION:
            policy = replace(policy, preemption=False)
        elif word == _NO_QUOTAS:
            quotas = ()
        else:
            known = ", ".join((*policy_names(), _IMPROVE, _EXACT, _NO_IMPROVE, _NO_PREEMPTION, _NO_QUOTAS))
            raise CommandFailed(f"--vs takes {known}, not {word!r}")
    return replace(rules, policy=policy, quotas=quotas)


def _check_contradictions(words: list[str]) -> None:
    """Raise CommandFailed for words of --vs of which only one can apply."""
    for group in (policy_names(), (_IMPROVE, _NO_IMPROVE), (_EXACT, _NO_IMPROVE)):
        found = list(dict.fromkeys(word for word in words if word in group))
        if len(found) > 1:
            raise CommandFailed(f"--vs takes one of {' and '.join(found)}: they exclude each other")


def _label(scenario: Scenario, *, nodes_differ: bool) -> str:
    parts = [str(scenario.rules.policy.placement)]
    if scenario.rules.policy.optimizer_steps:
        parts.append("optimized by a solver" if scenario.rules.policy.solver == "exact" else "optimized")
    if not scenario.rules.policy.preemption:
        parts.append("no preemption")
    if scenario.rules.quotas:
        parts.append("quotas")
    if nodes_differ:
        parts.append(counted(len(scenario.nodes), "node"))
    return ", ".join(parts)


def _run(session: Session, workload: Workload, scenarios: list[Scenario]) -> Figures:
    """Run the scenarios. Raises SolverNotInstalled before the first run."""
    for scenario in scenarios:
        load_solvers(scenario.rules.policy.solver)
    outcomes: list[Outcome] = []
    visible = is_interactive(session.errors)
    with progress_of(session.errors, visible=visible) as tasks:
        for scenario in scenarios:
            started = time.perf_counter()
            outcomes.append(run_scenario(workload, scenario, tasks.follow(scenario.label, workload.count)))
            seconds = time.perf_counter() - started
            session.note(
                f"{scenario.label}: {workload.count:,} jobs, {outcomes[-1].passes:,} passes "
                f"in {seconds:.1f} s "
                f"({workload.count / max(seconds, 1e-9):,.0f} jobs/s)"
            )
    return build_figures(workload, outcomes)


def _output(session: Session, figures: Figures, json_file: str | None, html: Path | None) -> None:
    if html is not None:
        html.write_text(render_page(figures), encoding="utf-8", errors="backslashreplace")
        session.note(f"Wrote the report to {html}.")
    if json_file == "-" or session.as_json:
        print_json(figures)
        return
    if json_file is not None:
        text = json_text(figures, indent=2, encoding="utf-8")
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    session.console.print(summary(figures))
