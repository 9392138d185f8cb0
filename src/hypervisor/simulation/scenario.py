"""One run from its description to what was measured, and two of them side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.simulation.engine import Progress, Rules, Simulation
from hypervisor.simulation.metrics.recorder import Recorder
from hypervisor.simulation.node_specs import NodeSpecs, node_table
from hypervisor.simulation.readers.workload import Workload


@dataclass(frozen=True, slots=True)
class Scenario:
    """A workload on nodes under rules. `label` tells it from the one beside it."""

    label: str
    nodes: NodeSpecs
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario. `end` is when the last thing happened, in seconds since the first arrival."""

    scenario: Scenario
    recorder: Recorder
    end: float
    running: int
    waiting: int
    passes: int


def simulate(workload: Workload, scenario: Scenario, progress: Progress | None = None) -> Outcome:
    """Run it to the end. Raises WorkloadError for a bad row; see `Simulation.run`."""
    nodes = node_table(scenario.nodes)
    recorder = Recorder(nodes, workload.span)
    simulation = Simulation(workload, nodes, scenario.rules, [recorder])
    simulation.run(progress)
    return Outcome(
        scenario=scenario,
        recorder=recorder,
        end=simulation.now,
        running=len(simulation.cluster.attempts),
        waiting=len(simulation.waiting),
        passes=simulation.passes,
    )
