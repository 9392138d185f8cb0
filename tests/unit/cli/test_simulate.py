"""`hypervisor simulate`: output, files and refusals."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest

from hypervisor.cli.main import run
from tests.support.simulation import write


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    rng = random.Random(7)
    rows = [
        f"{rng.uniform(0, 40_000):.3f},{rng.expovariate(1 / 3000):.3f},{rng.choice('abc')},"
        f"{rng.choice(['LOW', 'LOW', 'HIGH'])},{rng.choice([1, 2])},4,{rng.choice(['0.5', '1', '1', '2'])}"
        for _ in range(150)
    ]
    header = "arrival_seconds,duration_seconds,organization,priority,cpu_cores,ram_gb,gpu_count"
    return write(tmp_path / "jobs.csv", header, *rows)


def simulate_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    code = run(["simulate", *map(str, arguments), "--json", "-"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_the_same_call_gives_the_same_figures_bit_for_bit(
    jobs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("-w", jobs, "--nodes", "2x4gpu,16cpu,64gb", "--load", "1.2", "--vs", "spread")
    first = simulate_json(capsys, *arguments, "--seed", "3")
    assert simulate_json(capsys, *arguments, "--seed", "3") == first
    assert simulate_json(capsys, *arguments, "--seed", "4") != first


def test_the_second_run_has_the_requested_changes(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vs = "bestfit,no-preemption"
    out = simulate_json(
        capsys, "-w", jobs, "-n", "4x2gpu,8cpu,32gb", "-n", "+50%", "--vs", vs, "--limit", "100"
    )
    first, second = json.loads(out)["runs"]
    assert (first["label"], second["label"]) == ("fgd, 4 nodes", "bestfit, no preemption, 6 nodes")
    assert (first["capacity"]["gpu_count"], second["capacity"]["gpu_count"]) == (8, 12)
    assert first["jobs"]["arrived"] == second["jobs"]["arrived"] == 100
    assert first["evictions"] > 0
    assert second["evictions"] == 0
    assert second["wait_seconds"]["mean"] < first["wait_seconds"]["mean"]


def test_minimum_runtimes_and_budgets_protect_from_eviction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["0,10,LOW,1", "2,1,HIGH,1", "5,1,HIGH,1"]
    path = write(tmp_path / "jobs.csv", "arrival_seconds,duration_seconds,priority,cpu_cores", *rows)

    def waits(*more: str) -> tuple[int, float]:
        (found,) = json.loads(simulate_json(capsys, "-w", path, "--nodes", "1x1cpu", *more))["runs"]
        return found["evictions"], found["wait_seconds"]["max"]

    assert waits() == (2, 0)
    assert waits("--min-runtime", "4") == pytest.approx((1, 2), rel=0.02)
    assert waits("--preemption-budget", "1") == pytest.approx((1, 8), rel=0.02)


def test_the_optimizer_places_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On two nodes of 10 cores all five fit at once only as 5 + 3 + 2 and 6 + 4."""
    rows = [f"0,100,{cores},1,0" for cores in (5, 4, 3, 2, 6)]
    jobs = write(tmp_path / "jobs.csv", "arrival_seconds,duration_seconds,cpu_cores,ram_gb,gpu_count", *rows)
    out = simulate_json(capsys, "-w", jobs, "-n", "2x10cpu,64gb", "--vs", "improve")
    first, second = json.loads(out)["runs"]
    assert (first["label"], second["label"]) == ("fgd", "fgd, optimized")
    assert (first["wait_seconds"]["max"], second["wait_seconds"]["max"]) == (100, 0)


@pytest.mark.parametrize("arguments", [("--solver", "exact"), ("--vs", "exact")])
def test_the_solver_needs_its_extra(
    jobs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str],
) -> None:
    pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")
    command = ["-w", str(jobs), "-n", "8x2gpu,8cpu,32gb", "--limit", "20", *arguments]
    assert json.loads(simulate_json(capsys, *command))["runs"][-1]["label"] == "fgd, optimized by a solver"
    monkeypatch.setitem(sys.modules, "ortools", None)
    assert run(["simulate", *command]) == 1
    assert capsys.readouterr().err == (
        "error: solver 'exact' needs OR-tools, which is not installed: "
        "pip install ortools, or the extra `optimal` of this package\n"
    )


def test_the_figures_agree_with_each_other(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = simulate_json(capsys, "-w", jobs, "-n", "2x4gpu,16cpu,64gb", "--policy", "bestfit", "--grace", "30")
    (found,) = json.loads(out)["runs"]
    hours = found["gpu_hours"]
    time_series = found["time_series"]
    in_use = (
        sum(share for share in time_series["utilization"]["gpu"] if share)
        * time_series["bin_seconds"]
        * 8
        / 3600
    )
    # The last bin may not be full; its share is that of its part.
    assert in_use >= hours["done"] + hours["lost"] + hours["held_in_grace"] - 1e-6
    assert in_use == pytest.approx(hours["done"] + hours["lost"] + hours["held_in_grace"], rel=0.02)
    assert sum(time_series["evictions"]) == found["evictions"]
    assert sum(time_series["lost_gpu_hours"]) == pytest.approx(hours["lost"])
    for groups in ("by_priority", "by_organization"):
        assert sum(group["arrived"] for group in found[groups]) == 150
        assert sum(group["evictions"] for group in found[groups]) == found["evictions"]
    assert [group["label"] for group in found["by_priority"]] == ["HIGH", "LOW"]


def test_output_without_a_terminal_has_tables_and_no_progress_bar(
    jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, data = tmp_path / "report.html", tmp_path / "figures.json"
    code = run(
        [
            "simulate",
            "-w",
            str(jobs),
            "-n",
            "1x2gpu",
            "--html",
            str(page),
            "--json",
            str(data),
            "--no-preemption",
        ]
    )
    out, err = capsys.readouterr()
    assert code == 0
    assert "fgd, no preemption: 1 node · 2 GPUs" in out
    assert re.search(r"Jobs done +150", out)
    assert "━" not in err
    assert "passes in" in err
    assert json.loads(data.read_text())["workload"]["jobs"] == 150
    content = page.read_text()
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import|https?://""", content)
    assert "Simulation of jobs.csv" in content


def test_a_run_with_quotas_is_compared_with_one_without(
    jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quotas = write(tmp_path / "quotas.csv", "organization,guaranteed_gpu,limit_gpu,weight", "a,3,,2", "b,,1,")
    shared = ("-w", jobs, "-n", "2x2gpu,8cpu,32gb", "--quotas", quotas)
    first, second = json.loads(simulate_json(capsys, *shared, "--vs", "no-quotas"))["runs"]
    assert (first["label"], second["label"]) == ("fgd, quotas", "fgd")
    assert (first["shared"], second["shared"]) == (True, False)
    waits = [
        {group["label"]: group["wait_seconds"]["mean"] for group in found["by_organization"]}
        for found in (first, second)
    ]
    assert waits[0]["a"] < waits[1]["a"]
    assert waits[0]["b"] > waits[1]["b"]
    assert {group["code"] for group in first["rejected"]} == {"quota_limit"}
    for found in (first, second):
        assert sum(group["share_of_gpu_hours"] for group in found["by_organization"]) == pytest.approx(1)


def test_jobs_larger_than_a_node_are_split_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "philly.csv",
        "timestamp,duration,num_gpus,gpu_time,cluster",
        "2017-10-09 07:00:00,60.0,16,960.0,vc",
        "2017-10-09 07:00:00,60.0,12,720.0,vc",
        "2017-10-09 07:00:00,60.0,6,360.0,vc",
    )
    page, data = tmp_path / "report.html", tmp_path / "figures.json"
    arguments = ("-w", path, "-n", "5x8gpu", "--html", page, "--json", data)
    assert run(["simulate", *map(str, arguments)]) == 0
    (found,) = json.loads(data.read_text())["runs"]
    assert found["splits"] == [
        {"gpus": 12, "replicas": 2, "gpus_each": 6, "fills_nodes": False, "jobs": 1},
        {"gpus": 16, "replicas": 2, "gpus_each": 8, "fills_nodes": True, "jobs": 1},
    ]
    assert found["gpu_hours"]["done"] == pytest.approx(34 / 60)
    assert found["end_seconds"] == 60
    sentence = (
        "2 jobs larger than a node ran in equal replicas: "
        "12 GPUs as 2 x 6, because no node size divides it (1 job); 16 GPUs as 2 x 8 (1 job)"
    )
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert sentence in page.read_text()


def test_names_in_the_workload_cannot_break_the_page(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    path = write(
        tmp_path / "jobs.csv",
        "arrival_seconds,duration_seconds,organization,gpu_count",
        f"0,5,{script},1",
        f"1,5,{script},100",
    )
    page = tmp_path / "report.html"
    assert run(["simulate", "-w", str(path), "-n", "1x1gpu", "--html", str(page)]) == 0
    assert script not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "1x1gpu"], "no jobs: set --workload FILE"),
        (["-w", "JOBS"], "no nodes: set --nodes FILE"),
        (["-w", "JOBS", "-n", "+10%"], "no nodes: set --nodes FILE"),
        (["-w", "JOBS", "-n", "nodes.csv"], "'nodes.csv' is neither a file nor a node specification"),
        (
            ["-w", "JOBS", "-n", "1x1gpu", "--vs", "magic"],
            "--vs takes fgd, fill, bestfit, spread, improve, exact, no-improve, no-preemption, "
            "no-quotas, not 'magic'",
        ),
        (
            ["-w", "JOBS", "-n", "1x1gpu", "--format", "philly"],
            "the columns are missing: timestamp, duration, num_gpus, cluster",
        ),
        (["-w", "BAD", "-n", "1x1gpu"], "bad.csv:2: duration_seconds must be a number, not 'long'"),
    ],
)
def test_invalid_input_is_refused_in_one_line(
    jobs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    bad = write(jobs.parent / "bad.csv", "arrival_seconds,duration_seconds,gpu_count", "0,long,1")
    named = {"JOBS": str(jobs), "BAD": str(bad)}
    assert run(["simulate", *(named.get(each, each) for each in arguments)]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing" / "report"
    # The workload does not exist, and is not read.
    code = run(["simulate", "-w", "none.csv", "-n", "1x1gpu", option, str(missing)])
    assert (code, capsys.readouterr().err) == (1, f"error: {missing}: No such file or directory\n")


def test_a_refused_run_leaves_no_empty_report(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    assert run(["simulate", "-w", "none.csv", "-n", "1x1gpu", "--html", str(report)]) == 1
    assert not report.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", ""], "--nodes is empty"),
        (["-n", " "], "--nodes is empty"),
        (["-n", "1x4gpu,64cpu", "--vs", "fgd,spread"], "--vs takes one of fgd and spread"),
        (["-n", "1x4gpu,64cpu", "--vs", "improve,no-improve"], "--vs takes one of improve and no-improve"),
        (["-n", "1x4gpu,64cpu", "--vs", "no-improve,exact"], "--vs takes one of no-improve and exact"),
    ],
)
def test_contradictions_are_refused(
    arguments: list[str], message: str, jobs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", "-w", str(jobs), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_wrong_header_is_refused_with_the_required_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for header, message in (
        ("a,b", "Required columns: csv has arrival_seconds, duration_seconds; openb has cpu_milli"),
        ("arrival_seconds,cpu_cores", "required columns are arrival_seconds, duration_seconds"),
    ):
        file = write(tmp_path / "wrong.csv", header, "1,2")
        assert run(["simulate", "-w", str(file), "-n", "1x1gpu"]) == 1
        assert message in capsys.readouterr().err
