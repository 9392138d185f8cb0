"""simulate: the server's own scheduler over a workload in virtual time, and what-ifs beside it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from math import inf
from pathlib import Path

import typer

from hypervisor.cli.commands.simulate import flags as flags
from hypervisor.cli.commands.simulate.flags import Format, PackerChoice, Placement
from hypervisor.cli.commands.simulate.history import RecordedWorkload, load_history
from hypervisor.cli.commands.simulate.summary import progress_of, summary
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.output import print_json
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled, load_solvers
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
_STEPS = 20_000
"""Where --improve does not say how many."""
_NO_PREEMPTION = "no-preemption"
_NO_QUOTAS = "no-quotas"


def simulate(
    context: typer.Context,
    workload: flags.WorkloadFile = None,
    file_format: flags.FileFormat = Format.AUTO,
    nodes: flags.Nodes = None,
    policy: flags.PolicyName = None,
    vs: flags.Versus = None,
    improve: flags.Improve = None,
    packer: flags.Packer = None,
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
    """Run a workload through the scheduler in virtual time: how full, how long the waits, who was evicted.

    With --vs or a change of the nodes, a second run stands beside the first.
    """
    session = Session.of(context)
    bases = [text for text in nodes or [] if not is_resize(text)]
    changes = [text for text in nodes or [] if is_resize(text)]
    try:
        if from_history is not None:
            past = load_history(session, from_history, days, limit)
        else:
            past = RecordedWorkload(_open(workload, file_format, limit), (), Policy())
        fleet = _fleet(bases) or past.fleet
        if not fleet:
            raise CommandFailed("say on which nodes: --nodes FILE, or --nodes 100x8gpu,64cpu,512gb")
        way = past.policy if policy is None else replace(past.policy, placement=policy.value)
        way = _searching(way, improve, packer)
        if no_preemption:
            way = replace(way, preemption=False)
        terms = () if quotas is None else read_quotas(quotas)
        safe = _protection(past.protection, min_runtime, preemption_budget)
        end = inf if until is None else until * 3600
        rules = Rules(way, grace, end, quotas=terms, protection=safe)
        figures = _run(session, scale(past.jobs, load, seed), _scenarios(fleet, rules, changes, vs))
    except (WorkloadError, SolverNotInstalled) as error:
        raise CommandFailed(str(error)) from None
    _answer(session, figures, json_file, html)


def _open(path: Path | None, file_format: Format, limit: int | None) -> Workload:
    if path is None:
        raise CommandFailed("say which jobs: --workload FILE, or --from-history CLUSTER")
    return open_workload(path, file_format.value, limit)


def _searching(policy: Policy, steps: int | None, packer: PackerChoice | None) -> Policy:
    """Who is to search for how long; a packer that is named searches."""
    if packer is not None:
        policy = replace(policy, solver=packer.value, optimizer_steps=policy.optimizer_steps or _STEPS)
    return policy if steps is None else replace(policy, optimizer_steps=steps)


def _protection(own: Protection, min_runtime: float | None, budget: int | None) -> Protection:
    return replace(
        own,
        min_runtime=own.min_runtime if min_runtime is None else min_runtime,
        budget=own.budget if budget is None else budget,
    )


def _fleet(bases: list[str]) -> NodeSpecs:
    """All that was named, files and specifications, one after the other."""
    return tuple(
        node
        for base in bases
        for node in (read_nodes(Path(base)) if Path(base).exists() else parse_node_specs(base))
    )


def _scenarios(fleet: NodeSpecs, rules: Rules, changes: list[str], vs: str | None) -> list[Scenario]:
    """The run as it was asked for, and a second one with everything that is to be different."""
    first = Scenario("", fleet, rules)
    if not changes and vs is None:
        return [replace(first, label=_label(first, nodes_differ=False))]
    changed = fleet
    for change in changes:
        changed = resize(changed, change)
    second = replace(first, nodes=changed, rules=rules if vs is None else _other_rules(rules, vs))
    return [replace(each, label=_label(each, nodes_differ=bool(changes))) for each in (first, second)]


def _other_rules(rules: Rules, vs: str) -> Rules:
    policy, quotas = rules.policy, rules.quotas
    for word in vs.split(","):
        if word in tuple(Placement):
            policy = replace(policy, placement=Placement(word).value)
        elif word == _IMPROVE:
            policy = replace(policy, optimizer_steps=policy.optimizer_steps or _STEPS)
        elif word == _EXACT:
            steps = policy.optimizer_steps or _STEPS
            policy = replace(policy, optimizer_steps=steps, solver="exact")
        elif word == _NO_IMPROVE:
            policy = replace(policy, optimizer_steps=0)
        elif word == _NO_PREEMPTION:
            policy = replace(policy, preemption=False)
        elif word == _NO_QUOTAS:
            quotas = ()
        else:
            known = ", ".join((*Placement, _IMPROVE, _EXACT, _NO_IMPROVE, _NO_PREEMPTION, _NO_QUOTAS))
            raise CommandFailed(f"--vs is one of {known}, not {word!r}")
    return replace(rules, policy=policy, quotas=quotas)


def _label(scenario: Scenario, *, nodes_differ: bool) -> str:
    parts = [str(scenario.rules.policy.placement)]
    if scenario.rules.policy.optimizer_steps:
        parts.append("improved by a solver" if scenario.rules.policy.solver == "exact" else "improved")
    if not scenario.rules.policy.preemption:
        parts.append("no preemption")
    if scenario.rules.quotas:
        parts.append("quotas")
    if nodes_differ:
        parts.append(counted(len(scenario.nodes), "node"))
    return ", ".join(parts)


def _run(session: Session, workload: Workload, scenarios: list[Scenario]) -> Figures:
    """Raises PackerMissing before anything runs."""
    for scenario in scenarios:
        load_solvers(scenario.rules.policy.solver)
    outcomes: list[Outcome] = []
    visible = is_interactive(session.errors)
    with progress_of(session.errors, visible=visible) as tasks:
        for scenario in scenarios:
            began = time.perf_counter()
            outcomes.append(run_scenario(workload, scenario, tasks.follow(scenario.label, workload.count)))
            took = time.perf_counter() - began
            session.note(
                f"{scenario.label}: {workload.count:,} jobs, {outcomes[-1].passes:,} passes in {took:.1f} s "
                f"({workload.count / max(took, 1e-9):,.0f} jobs/s)"
            )
    return build_figures(workload, outcomes)


def _answer(session: Session, figures: Figures, json_file: str | None, html: Path | None) -> None:
    if html is not None:
        html.write_text(render_page(figures), encoding="utf-8")
        session.note(f"The report is in {html}.")
    if json_file == "-" or session.as_json:
        print_json(figures)
        return
    if json_file is not None:
        Path(json_file).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    session.console.print(summary(figures))
