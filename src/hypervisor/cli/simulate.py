"""simulate: the server's own scheduler over a workload in virtual time, and what-ifs beside it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from hypervisor.cli.failures import CommandFailed
from hypervisor.cli.output import print_json
from hypervisor.cli.session import Session, is_interactive
from hypervisor.cli.simulate_history import load_history
from hypervisor.cli.simulate_summary import progress_of, summary
from hypervisor.scheduling.policy import Policy
from hypervisor.simulation.engine import Rules
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.fleet import Fleet, change_fleet, is_change, parse_fleet
from hypervisor.simulation.readers.nodes import read_nodes
from hypervisor.simulation.readers.scaled import scale
from hypervisor.simulation.readers.workload import Workload, open_workload
from hypervisor.simulation.report.figures import Figures, figures_of
from hypervisor.simulation.report.page import render_page
from hypervisor.simulation.scenario import Outcome, Scenario
from hypervisor.simulation.scenario import simulate as run_scenario

_NO_PREEMPTION = "no-preemption"


class Placement(StrEnum):
    FGD = "fgd"
    BESTFIT = "bestfit"
    SPREAD = "spread"


class Format(StrEnum):
    AUTO = "auto"
    CSV = "csv"
    OPENB = "openb"
    PHILLY = "philly"


def simulate(
    context: typer.Context,
    workload: Annotated[
        Path | None, typer.Option("--workload", "-w", metavar="FILE", help="The jobs, as CSV.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Of the workload file.")] = Format.AUTO,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--nodes",
            "-n",
            metavar="FILE|SPEC|CHANGE",
            help="A node list, or nodes like 100x8gpu,64cpu,512gb; repeatable. A change like +10% or -4 is "
            "applied in a second run.",
        ),
    ] = None,
    policy: Annotated[Placement, typer.Option(help="Where work is placed.")] = Placement.FGD,
    vs: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="A second run beside it: fgd, bestfit, spread or no-preemption."),
    ] = None,
    no_preemption: Annotated[bool, typer.Option("--no-preemption", help="Nobody is evicted.")] = False,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds that a victim takes to end.")] = 0.0,
    load: Annotated[
        float, typer.Option(help="Times the work: 1.2 draws a fifth of the jobs a second time.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what --load draws.")] = 42,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many jobs only.")] = None,
    until: Annotated[
        float | None, typer.Option(min=0.0, metavar="HOURS", help="Stop then; else when all is done.")
    ] = None,
    from_history: Annotated[
        str | None,
        typer.Option(metavar="CLUSTER", help="Jobs and nodes of a cluster of the server, by name or id."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, help="How far back --from-history goes.")] = 7.0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the figures; - is stdout.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report for a browser.")] = None,
) -> None:
    """Run a workload through the scheduler in virtual time: how full, how long the waits, who was evicted.

    With --vs or a change of the nodes, a second run stands beside the first.
    """
    session = Session.of(context)
    bases = [text for text in nodes or [] if not is_change(text)]
    changes = [text for text in nodes or [] if is_change(text)]
    jobs: Workload
    try:
        if from_history is not None:
            jobs, fleet = load_history(session, from_history, days, limit)
        else:
            jobs, fleet = _open(workload, format, limit), ()
        fleet = _fleet(bases) or fleet
        if not fleet:
            raise CommandFailed("say on which nodes: --nodes FILE, or --nodes 100x8gpu,64cpu,512gb")
        rules = Rules(Policy(policy.value, not no_preemption), grace, inf if until is None else until * 3600)
        scenarios = _scenarios(fleet, rules, changes, vs)
        figures = _run(session, scale(jobs, load, seed), scenarios)
    except WorkloadError as error:
        raise CommandFailed(str(error)) from None
    _answer(session, figures, json_file, html)


def _open(path: Path | None, format: Format, limit: int | None) -> Workload:
    if path is None:
        raise CommandFailed("say which jobs: --workload FILE, or --from-history CLUSTER")
    return open_workload(path, format.value, limit)


def _fleet(bases: list[str]) -> Fleet:
    """All that was named, files and specifications, one after the other."""
    return tuple(
        node
        for base in bases
        for node in (read_nodes(Path(base)) if Path(base).exists() else parse_fleet(base))
    )


def _scenarios(fleet: Fleet, rules: Rules, changes: list[str], vs: str | None) -> list[Scenario]:
    """The run as it was asked for, and a second one with everything that is to be different."""
    first = Scenario("", fleet, rules)
    if not changes and vs is None:
        return [replace(first, label=_label(first, nodes_differ=False))]
    changed = fleet
    for change in changes:
        changed = change_fleet(changed, change)
    second = replace(first, fleet=changed, rules=rules if vs is None else _other_rules(rules, vs))
    return [replace(each, label=_label(each, nodes_differ=bool(changes))) for each in (first, second)]


def _other_rules(rules: Rules, vs: str) -> Rules:
    policy = rules.policy
    for word in vs.split(","):
        if word in tuple(Placement):
            policy = replace(policy, placement=Placement(word).value)
        elif word == _NO_PREEMPTION:
            policy = replace(policy, preemption=False)
        else:
            raise CommandFailed(f"--vs is one of {', '.join(Placement)}, {_NO_PREEMPTION}, not {word!r}")
    return replace(rules, policy=policy)


def _label(scenario: Scenario, *, nodes_differ: bool) -> str:
    parts = [str(scenario.rules.policy.placement)]
    if not scenario.rules.policy.preemption:
        parts.append("no preemption")
    if nodes_differ:
        parts.append(f"{len(scenario.fleet):,} nodes")
    return ", ".join(parts)


def _run(session: Session, workload: Workload, scenarios: list[Scenario]) -> Figures:
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
    return figures_of(workload, outcomes)


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
