"""The metrics of a simulation, compared with exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.cluster_load import FreeCapacity
from hypervisor.simulation.metrics.fragmentation import Fragmentation
from hypervisor.simulation.metrics.job_stats import StatsByGroup
from hypervisor.simulation.metrics.quantiles import DurationQuantiles
from hypervisor.simulation.metrics.time_series import TimeSeries
from hypervisor.simulation.node_specs import NodeSpec, node_table


@given(st.lists(st.floats(0, 1e8), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_one_percent(seconds: list[float], share: float) -> None:
    durations = DurationQuantiles()
    for value in seconds:
        durations.add(value)
    exact = sorted(seconds)[max(1, math.ceil(share * len(seconds))) - 1]
    assert durations.quantile(share) == pytest.approx(exact, rel=0.0101, abs=1e-3)
    assert durations.longest == max(seconds)
    assert durations.mean == pytest.approx(sum(seconds) / len(seconds))


def test_without_durations_there_is_no_mean_and_no_quantile() -> None:
    assert DurationQuantiles().quantile(0.5) is None
    assert DurationQuantiles().mean is None


@given(
    st.lists(st.tuples(st.floats(0.01, 500), st.integers(0, 9)), min_size=1, max_size=60),
    st.floats(0.5, 20),
)
def test_merged_bins_keep_the_totals(spans: list[tuple[float, int]], width: float) -> None:
    time_series, now = TimeSeries(("level", "events"), width, bins=8), 0.0
    for length, level in spans:
        time_series.add_levels(now, now + length, np.array([level], np.float64))
        now += length
        time_series.add(now, "events", 1)
    assert time_series.values("level").sum() == pytest.approx(sum(length * level for length, level in spans))
    assert time_series.values("events").sum() == len(spans)
    assert time_series.bin_lengths().sum() == pytest.approx(now)
    assert len(time_series.values("level")) <= 8
    highest = max(level for _, level in spans)
    assert (time_series.values("level") <= time_series.bin_lengths() * highest + 1e-6).all()


def test_each_bin_has_the_integral_of_its_time() -> None:
    time_series = TimeSeries(("level",), 10.0, bins=4)
    time_series.add_levels(0.0, 25.0, np.array([2.0]))
    time_series.add_levels(25.0, 38.0, np.array([1.0]))
    assert time_series.values("level").tolist() == [20.0, 20.0, 15.0, 8.0]
    time_series.add_levels(38.0, 45.0, np.array([0.0]))
    assert time_series.width == 20.0
    assert time_series.values("level").tolist() == [40.0, 23.0, 0.0]


def test_groups_beyond_the_limit_share_one() -> None:
    groups: StatsByGroup[str] = StatsByGroup("(others)", limit=2)
    for key in ("a", "b", "c", "a", "d"):
        groups.stats_for(key).arrived += 1
    assert [(key, stats.arrived) for key, stats in groups.items()] == [("a", 2), ("b", 1), ("(others)", 2)]


def free(*nodes: list[int], cpu: int = 8000) -> FreeCapacity:
    gpu = np.array(nodes, np.int64)
    return FreeCapacity(np.full(len(nodes), cpu), np.full(len(nodes), 1 << 20), gpu)


def test_fragmentation_is_the_idle_share_that_requests_cannot_use() -> None:
    nodes = node_table([NodeSpec("a", 8000, 1 << 20, 2), NodeSpec("b", 8000, 1 << 20, 2)])
    fragmentation = Fragmentation(nodes)
    assert fragmentation.share(free([1000, 1000], [1000, 1000])) is None
    fragmentation.arrived(Shape(1000, 0, 2000))
    assert fragmentation.share(free([1000, 1000], [1000, 1000])) == 0.0
    assert fragmentation.share(free([1000, 0], [0, 1000])) == 1.0
    assert fragmentation.share(free([1000, 1000], [0, 1000])) == pytest.approx(1 / 3)
    assert fragmentation.share(free([1000, 1000], [1000, 1000], cpu=999)) == 1.0
    assert fragmentation.share(free([0, 0], [0, 0])) is None
    fragmentation.arrived(Shape(1000, 0, 500))
    # The request for two GPUs can use none of the 900, the request for half a GPU all but the piece of 400.
    assert fragmentation.share(free([400, 0], [0, 500])) == pytest.approx((900 + 400) / 1800)
