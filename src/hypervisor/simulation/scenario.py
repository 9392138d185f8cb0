"""A scenario (nodes and rules), and the outcome of its simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.simulation.engine import Progress, Rules, Simulation
from hypervisor.simulation.metrics.recorder import Recorder
from hypervisor.simulation.node_specs import NodeSpecs, node_table
from hypervisor.simulation.readers.workload import Workload


@dataclass(frozen=True, slots=True)
class Scenario:
    """The nodes and the rules of a run. `label` distinguishes the runs of a report."""

    label: str
    nodes: NodeSpecs
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a scenario. `end` is the time of the last event, in seconds since the first arrival."""

    scenario: Scenario
    recorder: Recorder
    end: float
    running: int
    waiting: int
    passes: int


def simulate(workload: Workload, scenario: Scenario, progress: Progress | None = None) -> Outcome:
    """Run a scenario to its end. Raises like `Simulation.run`."""
    nodes = node_table(scenario.nodes)
    recorder = Recorder(nodes, workload.span)
    simulation = Simulation(workload, nodes, scenario.rules, [recorder])
    simulation.run(progress)
    return Outcome(
        scenario=scenario,
        recorder=recorder,
        end=simulation.now,
        running=len(simulation.cluster.attempts),
        waiting=len(simulation.queue),
        passes=simulation.passes,
    )
