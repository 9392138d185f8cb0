"""The outcome of simulations as plain data, ready for JSON. The fields are described in docs/simulator.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hypervisor.kernel.priority import priority_label
from hypervisor.kernel.resources import MIB_PER_GIB, MILLI
from hypervisor.scheduling.snapshots.snapshot import Float64
from hypervisor.simulation.metrics.job_stats import JobStats
from hypervisor.simulation.metrics.quantiles import DurationQuantiles
from hypervisor.simulation.metrics.recorder import OTHER_PRIORITIES, Recorder
from hypervisor.simulation.readers.workload import Workload
from hypervisor.simulation.scenario import Outcome

Figures = dict[str, Any]

RESOURCES = {"gpu": "gpu_milli", "cpu": "cpu_milli", "ram": "ram_mib"}
_HOUR = 3600.0


def build_figures(workload: Workload, outcomes: Sequence[Outcome]) -> Figures:
    """Everything that is known of one workload and its runs."""
    return {
        "workload": {
            "name": workload.name,
            "jobs": workload.count,
            "span_seconds": workload.span,
            "origin_unix_seconds": workload.origin,
        },
        "runs": [_run(outcome) for outcome in outcomes],
    }


def _run(outcome: Outcome) -> Figures:
    recorder, scenario = outcome.recorder, outcome.scenario
    tally = recorder.totals
    return {
        "label": scenario.label,
        "policy": scenario.rules.policy.placement,
        "preemption": scenario.rules.policy.preemption,
        "shared": bool(scenario.rules.quotas),
        "grace_seconds": scenario.rules.grace,
        "nodes": len(scenario.nodes),
        "capacity": _capacity(recorder),
        "end_seconds": outcome.end,
        "passes": outcome.passes,
        "jobs": {
            "arrived": tally.arrived,
            "ended": tally.ended,
            "running": outcome.running,
            "waiting": outcome.waiting,
            "rejected": tally.rejected,
        },
        "utilization": {name: recorder.utilization(level) for name, level in RESOURCES.items()},
        "gpu_hours": {
            "done": tally.done_gpu_seconds / _HOUR,
            "lost": tally.lost_gpu_seconds / _HOUR,
            "held_in_grace": recorder.grace_gpu_seconds / _HOUR,
            "rejected": tally.rejected_gpu_seconds / _HOUR,
        },
        "evictions": tally.evictions,
        "highest_waiting": recorder.highest_waiting,
        "wait_seconds": _durations(tally.waits),
        "turnaround_seconds": _durations(tally.turnarounds),
        "by_priority": _by_priority(recorder),
        "by_organization": _by_organization(recorder),
        "rejected": [
            {"code": code, "jobs": each.jobs, "gpu_hours": each.gpu_seconds / _HOUR, "example": each.example}
            for code, each in recorder.rejected_jobs.items()
        ],
        "splits": _splits(recorder),
        "time_series": _courses(recorder),
    }


def _splits(recorder: Recorder) -> list[Figures]:
    """How jobs larger than a node were divided, the smallest first."""
    ranked = sorted(recorder.splits.items(), key=lambda item: (item[0].gpus, item[0].gpus_each))
    return [{**asdict(how), "jobs": jobs} for how, jobs in ranked]


def _capacity(recorder: Recorder) -> Figures:
    """In API units; None where the nodes do not say."""
    gpu, cpu, ram = (recorder.capacity[level] for level in RESOURCES.values())
    return {
        "gpu_count": None if gpu is None else gpu / MILLI,
        "cpu_cores": None if cpu is None else cpu / MILLI,
        "ram_gb": None if ram is None else ram / MIB_PER_GIB,
    }


def _durations(durations: DurationQuantiles) -> Figures:
    return {
        "count": durations.count,
        "mean": durations.mean,
        "p50": durations.quantile(0.50),
        "p90": durations.quantile(0.90),
        "p99": durations.quantile(0.99),
        "max": durations.longest if durations.count else None,
    }


def _by_priority(recorder: Recorder) -> list[Figures]:
    """From the highest priority down."""
    return [
        {
            "priority": priority if priority != OTHER_PRIORITIES else None,
            "label": priority_label(priority) if priority != OTHER_PRIORITIES else "(others)",
            **_tally(tally),
        }
        for priority, tally in sorted(recorder.by_priority.items(), reverse=True)
    ]


def _by_organization(recorder: Recorder) -> list[Figures]:
    """From the one with the most jobs down."""
    ranked = sorted(recorder.by_organization.items(), key=lambda item: (-item[1].arrived, item[0]))
    whole = recorder.totals.used_gpu_seconds
    return [
        {
            "label": name,
            "share_of_gpu_hours": tally.used_gpu_seconds / whole if whole else None,
            **_tally(tally),
        }
        for name, tally in ranked
    ]


def _tally(tally: JobStats) -> Figures:
    return {
        "arrived": tally.arrived,
        "ended": tally.ended,
        "rejected": tally.rejected,
        "evictions": tally.evictions,
        "done_gpu_hours": tally.done_gpu_seconds / _HOUR,
        "done_cpu_hours": tally.done_cpu_seconds / _HOUR,
        "lost_gpu_hours": tally.lost_gpu_seconds / _HOUR,
        "lost_cpu_hours": tally.lost_cpu_seconds / _HOUR,
        "wait_seconds": _durations(tally.waits),
    }


def _courses(recorder: Recorder) -> Figures:
    """Per bin of time: mean shares in use, mean numbers, sums of evictions and of what they lost."""
    time_series = recorder.time_series
    lengths = time_series.bin_lengths()
    known = time_series.values("fragmentation_known")
    shares: Figures = {}
    for name, level in RESOURCES.items():
        capacity = recorder.capacity[level]
        shares[name] = _means(time_series.values(level), lengths * capacity) if capacity else None
    return {
        "bin_seconds": time_series.width,
        "utilization": shares,
        "running": _means(time_series.values("running"), lengths),
        "waiting": _means(time_series.values("waiting"), lengths),
        "waiting_gpus": _means(time_series.values("waiting_gpu_milli"), lengths * MILLI),
        "evictions": time_series.values("evictions").astype(int).tolist(),
        "lost_gpu_hours": (time_series.values("lost_gpu_seconds") / _HOUR).tolist(),
        "fragmentation": _means(time_series.values("fragmentation"), known),
    }


def _means(totals: Float64, weights: Float64) -> list[float | None]:
    """Element by element; None where there is nothing to take the mean of."""
    safe = np.where(weights > 0, weights, 1.0)
    return [float(mean) if weight > 0 else None for mean, weight in zip(totals / safe, weights, strict=True)]
