"""The results page, and the run of one benchmark for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import parse

from benchmarks.support.bar_chart import Bar
from benchmarks.support.results_page import BenchmarkRun, Plot, write_page
from benchmarks.support.run_all import run

MACHINE = {"machine": {"cpu": "X", "cores": 2, "python": "3", "system": "L"}, "load_average": [0.5]}


def test_a_chart_has_a_bar_per_run_or_entry() -> None:
    figures = {"clients": {"1": {"ratio": 0.5}, "4": {"ratio": 0.25}}, "hard": {"ours": 100.0, "greedy": 0.0}}
    runs = [BenchmarkRun("accepts", (), "", 1.0, figures)]
    assert Plot("accepts", "", "clients.*.ratio").rows(runs) == [Bar("1", 0.5), Bar("4", 0.25)]
    assert Plot("accepts", "", "hard").rows(runs) == [Bar("ours", 100.0)]
    assert Plot("accepts", "", "*.ratio").rows(runs) == []


def openb(policy: str, allocated: float) -> BenchmarkRun:
    figures = {"protocol": "openb-130", "policy": policy, "mean": {"allocated_percent": allocated}, **MACHINE}
    return BenchmarkRun(
        "openb", ("--small", "--policy", policy), "How full.", 2.0, {**figures, "seeds": [1, 2]}
    )


def test_the_page_has_every_figure_and_a_chart(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "old.svg").write_text("")
    failed = BenchmarkRun("loops", ("--small",), "Loops?", 1.0, {"inversions": 3}, "ended with status 1")
    runs = [openb("fgd", 95.0), openb("fill <x>", 96.5), failed]
    page = write_page(runs, tmp_path, datetime(2026, 1, 2, tzinfo=UTC)).read_text()
    assert "2026-01-02" in page
    assert "X, 2 cores" in page
    assert "`python -m benchmarks.openb --small --policy fgd` (2 s)" in page
    assert "| mean.allocated_percent | 96.5 |" in page
    assert "seeds" not in page
    assert "**Failed:** ended with status 1\n\n| figure" in page
    (picture,) = (tmp_path / "benchmarks").glob("*.svg")
    assert f"(benchmarks/{picture.name})" in page
    drawn = parse(picture).getroot()
    labels = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert labels[1:] == ["openb-130 fgd", "95", "openb-130 fill <x>", "96.5"]


def test_a_run_has_figures_or_an_error() -> None:
    ran = run("loops", ("--workloads", "1"))
    assert (ran.figures["workloads"], ran.error) == (1, "")
    assert ran.about.startswith("A search for preemption loops")
    assert "unrecognized arguments" in run("loops", ("--sideways",)).error
