"""The outcomes of simulations as plain data for JSON; docs/simulator.md describes the fields."""

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
    """The figures of a workload and of its runs."""
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
    totals = recorder.totals
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
            "arrived": totals.arrived,
            "ended": totals.ended,
            "running": outcome.running,
            "waiting": outcome.waiting,
            "rejected": totals.rejected,
        },
        "utilization": {name: recorder.utilization(level) for name, level in RESOURCES.items()},
        "gpu_hours": {
            "done": totals.done_gpu_seconds / _HOUR,
            "lost": totals.lost_gpu_seconds / _HOUR,
            "held_in_grace": recorder.grace_gpu_seconds / _HOUR,
            "rejected": totals.rejected_gpu_seconds / _HOUR,
        },
        "evictions": totals.evictions,
        "highest_waiting": recorder.highest_waiting,
        "wait_seconds": _durations(totals.waits),
        "turnaround_seconds": _durations(totals.turnarounds),
        "by_priority": _by_priority(recorder),
        "by_organization": _by_organization(recorder),
        "rejected": [
            {
                "code": code,
                "jobs": rejected.jobs,
                "gpu_hours": rejected.gpu_seconds / _HOUR,
                "example": rejected.example,
            }
            for code, rejected in recorder.rejected_jobs.items()
        ],
        "splits": _splits(recorder),
        "time_series": _time_series(recorder),
    }


def _splits(recorder: Recorder) -> list[Figures]:
    """The splits of jobs larger than a node, the smallest job first."""
    ranked = sorted(recorder.splits.items(), key=lambda item: (item[0].gpus, item[0].gpus_each))
    return [{**asdict(how), "jobs": jobs} for how, jobs in ranked]


def _capacity(recorder: Recorder) -> Figures:
    """The capacity in API units; None for an unlimited resource."""
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
    """The figures by priority, the highest first."""
    return [
        {
            "priority": priority if priority != OTHER_PRIORITIES else None,
            "label": priority_label(priority) if priority != OTHER_PRIORITIES else "(others)",
            **_stats(stats),
        }
        for priority, stats in sorted(recorder.by_priority.items(), reverse=True)
    ]


def _by_organization(recorder: Recorder) -> list[Figures]:
    """The figures by organization, the one with the most jobs first."""
    ranked = sorted(recorder.by_organization.items(), key=lambda item: (-item[1].arrived, item[0]))
    total = recorder.totals.used_gpu_seconds
    return [
        {
            "label": name,
            "share_of_gpu_hours": stats.used_gpu_seconds / total if total else None,
            **_stats(stats),
        }
        for name, stats in ranked
    ]


def _stats(stats: JobStats) -> Figures:
    return {
        "arrived": stats.arrived,
        "ended": stats.ended,
        "rejected": stats.rejected,
        "evictions": stats.evictions,
        "done_gpu_hours": stats.done_gpu_seconds / _HOUR,
        "done_cpu_hours": stats.done_cpu_seconds / _HOUR,
        "lost_gpu_hours": stats.lost_gpu_seconds / _HOUR,
        "lost_cpu_hours": stats.lost_cpu_seconds / _HOUR,
        "wait_seconds": _durations(stats.waits),
    }


def _time_series(recorder: Recorder) -> Figures:
    """Per bin: mean allocated shares, mean job counts, sums of evictions and of lost work."""
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
    """The mean per bin; None for a bin without weight."""
    safe = np.where(weights > 0, weights, 1.0)
    return [float(mean) if weight > 0 else None for mean, weight in zip(totals / safe, weights, strict=True)]
