"""The growth measurement: reports of points, and exponents."""

from __future__ import annotations

from typing import Any

from benchmarks.support.growth import Point, measure_growth, run_in_process


def test_exponents_are_between_the_first_and_the_last_point() -> None:
    def run(point: Point) -> dict[str, Any]:
        return {"pass_cpu_seconds": point.queue**2 / 1e9, "peak_memory_mib": 50 + point.queue // 1000}

    grown = measure_growth(
        [Point(1_000, 10), Point(10_000, 10), Point(100_000, 10)], run, lambda point: point.queue
    )
    assert grown["time_exponent"] == 2.0
    assert 0 < grown["memory_exponent"] < 0.5
    assert [row["queue"] for row in grown["points"]] == [1_000, 10_000, 100_000]


def test_a_point_runs_the_benchmark_in_a_separate_process() -> None:
    report = run_in_process(["benchmarks.decisions", "--queue", "50", "--nodes", "5", "--repeat", "1"])
    assert report["queue"] == 50
    assert report["placed"] > 0
    assert report["peak_memory_mib"] > 0
    assert report["reasons_cpu_seconds"] >= 0
