"""The FGD protocol on tiny traces: arrivals, retries, and the check of placements."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.openb import figures_of, placement_lines, run
from benchmarks.openb_check import find_faults
from benchmarks.support.openb_trace import (
    Trace,
    TraceNode,
    TracePod,
    arrivals,
    generated_trace,
    read_trace,
    typical_requests,
)
from benchmarks.support.trace_replay import PlanScheduler, RandomScheduler, Replay

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot


def node(name: str = "n", gpus: int = 4, model: str | None = "T4", cpu: int = 96_000) -> TraceNode:
    return TraceNode(name, cpu, 262_144, gpus, model)


def pod(
    name: str, gpu: int = 1000, qos: str = "BE", models: tuple[str, ...] = (), cpu: int = 1000
) -> TracePod:
    return TracePod(name, Shape(cpu, 1024, gpu, models), qos)


class TestArrivals:
    def test_stop_before_the_next_would_pass_130_percent_of_the_gpus(self) -> None:
        trace = Trace((node(gpus=10),), tuple(pod(f"p{number}", 900) for number in range(5)))
        _, arriving = arrivals(trace, seed=42)
        assert len(arriving) == 14  # 14 x 0.9 = 12.6, one more would be 13.5 of 13

    def test_exactly_130_percent_is_allowed(self) -> None:
        trace = Trace((node(gpus=10),), (pod("p"),))
        assert len(arrivals(trace, seed=1)[1]) == 13

    def test_begin_with_every_pod_once_in_an_order_of_the_seed(self) -> None:
        trace = generated_trace()
        names = [[each.name for each in arrivals(trace, seed)[1][: len(trace.pods)]] for seed in (1, 1, 2)]
        assert all(sorted(each) == sorted(pod.name for pod in trace.pods) for each in names)
        assert names[0] == names[1] != names[2]

    def test_a_trace_without_gpu_requests_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no pod requests a GPU"):
            arrivals(Trace((node(),), (pod("p", 0),)), seed=1)


def test_typical_requests_are_the_most_popular_up_to_95_percent_renormalised() -> None:
    pods = [pod(f"a{n}", 1000) for n in range(60)] + [pod(f"b{n}", 500) for n in range(35)]
    pods += [pod(f"c{n}", 300 + n) for n in range(5)]
    typical = typical_requests(pods)
    assert [shape.gpu_milli for shape, _ in typical] == [1000, 500]
    assert [weight for _, weight in typical] == pytest.approx([60 / 95, 35 / 95])


class TestReplay:
    def test_a_pod_that_fits_nowhere_is_dropped_without_priorities(self) -> None:
        outcome = Replay([node(gpus=1)], [pod("a", qos="BE"), pod("b", qos="LS")], plan_scheduler()).run(
            False
        )
        assert [arrival.pod_placement is not None for arrival in outcome.arrivals] == [True, False]
        assert figures_of(outcome)["allocated_percent"] == 100.0

    def test_a_higher_class_evicts_and_the_victim_is_tried_once_more_at_the_end(self) -> None:
        """The victim does not fit when it is evicted, and does not fit at the end either."""
        outcome = Replay([node(gpus=1)], [pod("a", qos="BE"), pod("b", qos="LS")], plan_scheduler()).run(True)
        assert [arrival.pod_placement is not None for arrival in outcome.arrivals] == [False, True]
        assert [arrival.evictions for arrival in outcome.arrivals] == [1, 0]

    def test_dropped_and_evicted_pods_are_tried_once_more_in_one_queue(self) -> None:
        """After the decisions on all arrivals, dropped and evicted pods are decided together."""
        queues: list[list[int]] = []

        def player(snapshot: Snapshot) -> Plan:
            queues.append(snapshot.pending.deployment_id.tolist())
            return plan(snapshot)

        pods = [pod("victim"), pod("dropped"), pod("first", qos="LS"), pod("second", qos="LS")]
        Replay([node(gpus=1)], pods, player).run(True)
        assert queues == [[0], [1], [2], [2], [3], [0, 1, 3]]

    def test_random_places_only_on_nodes_that_fit(self) -> None:
        nodes = [node("small", gpus=1), node("large", gpus=4)]
        outcome = Replay(nodes, [pod(f"p{n}", 2000) for n in range(3)], RandomScheduler(1)).run(False)
        assert [
            arrival.pod_placement.node_id if arrival.pod_placement else None for arrival in outcome.arrivals
        ] == [
            2,
            2,
            None,
        ]

    def test_gpu_models_are_respected(self) -> None:
        nodes = [node("t4", model="T4"), node("v100", model="V100M32")]
        pods = [pod(f"p{n}", models=("V100M16", "V100M32")) for n in range(5)]
        outcome = Replay(nodes, pods, plan_scheduler()).run(False)
        assert Counter(
            arrival.pod_placement.node_id if arrival.pod_placement else 0 for arrival in outcome.arrivals
        ) == {
            2: 4,
            0: 1,
        }


class TestVerifier:
    def test_valid_placements_have_no_faults(self) -> None:
        trace = generated_trace()
        for policy, priority in (("fgd", True), ("bestfit", False), ("random", False)):
            lines = placement_lines(run(trace, 3, policy, priority), 3)
            assert find_faults(trace, lines) == []

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"gpus": [0]}, "2000 of 1000 milli-GPU on device 0"),
            ({"gpus": [7]}, r"devices \[7\] of 2"),
            ({"gpus": [0, 1]}, "for a request of 1"),
            ({"milli": 500}, "500 milli-GPU a device instead of 1000"),
            ({"node": "elsewhere"}, "there is no node elsewhere"),
            ({"name": "stranger"}, "not in the trace: stranger"),
            ({"node": "other"}, "model P100 is not one of T4"),
            ({"node": "weak", "gpus": [0]}, "1000 of 500 milli-CPU"),
        ],
    )
    def test_an_illegal_placement_is_found(self, change: dict[str, Any], fault: str) -> None:
        nodes = (node("n", gpus=2), node("other", gpus=1, model="P100"), node("weak", gpus=1, cpu=500))
        trace = Trace(nodes, tuple(pod(f"p{number}", models=("T4",)) for number in range(5)))
        lines = [placement(number, f"p{number % 5}") for number in range(5)]
        lines[0].update(node="n", gpus=[0])
        lines[1].update(node="n", gpus=[1])
        assert find_faults(trace, lines) == []
        lines[1].update(change)
        assert [message for message in find_faults(trace, lines) if matches(fault, message)]

    def test_arrivals_that_violate_the_protocol_are_found(self) -> None:
        trace = Trace((node(gpus=4),), (pod("p"), pod("q")))
        lines = [placement(number, name) for number, name in enumerate(["p", "p", "p", "p", "p"])]
        assert any("each once" in fault for fault in find_faults(trace, lines))
        too_many = [placement(number, name) for number, name in enumerate(["p", "q", "p", "p", "p", "p"])]
        assert any("more than 1.3" in fault for fault in find_faults(trace, too_many))
        assert any("below the target" in fault for fault in find_faults(trace, too_many[:3]))


class TestFiles:
    def test_command_writes_placements_and_figures(self, tmp_path: Path) -> None:
        nodes, pods, out = tmp_path / "nodes.csv", tmp_path / "pods.csv", tmp_path / "out.jsonl"
        nodes.write_text(
            "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,T4\nn-1,64000,262144,2,P100\n"
        )
        pods.write_text(
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"
            "a,4000,8192,1,1000,T4,LS\nb,4000,8192,1,460,,BE\nc,4000,8192,0,0,,Burstable\n"
        )
        command = [sys.executable, "-m", "benchmarks.openb", "--nodes", str(nodes), "--pods", str(pods)]
        done = subprocess.run(
            [*command, "--seeds", "42,44-45", "--priority", "--placements", str(out)],
            capture_output=True,
            text=True,
            check=True,
        )
        report = json.loads(done.stdout.splitlines()[-1])
        assert [each["seed"] for each in report["seeds"]] == [42, 44, 45]
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert find_faults(read_trace(nodes, pods), lines) == []
        assert {line["seed"] for line in lines} == {42, 44, 45}

    def test_errors_have_file_and_line(self, tmp_path: Path) -> None:
        nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
        nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,T4\n")
        pods.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,1,1000\nb,1,1,2,500\n")
        with pytest.raises(ValueError, match=r"pods\.csv:3: 2 devices of 500 milli-GPU each"):
            read_trace(nodes, pods)


def plan_scheduler() -> PlanScheduler:
    return PlanScheduler(Policy())


def placement(arrival: int, name: str) -> dict[str, Any]:
    return {
        "seed": 1,
        "arrival": arrival,
        "name": name,
        "node": None,
        "gpus": [],
        "milli": 1000,
        "evictions": 0,
    }


def matches(part: str, text: str) -> bool:
    return part.replace("\\", "") in text
