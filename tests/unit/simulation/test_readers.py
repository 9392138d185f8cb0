"""Readers: jobs in order of arrival, and errors with file and line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.node_specs import UNLIMITED, NodeSpec
from hypervisor.simulation.quotas import QuotaTerms
from hypervisor.simulation.readers.nodes import read_nodes
from hypervisor.simulation.readers.quotas import read_quotas
from hypervisor.simulation.readers.scaling import scale
from hypervisor.simulation.readers.workload import ListedWorkload, open_workload
from tests.support.simulation import job, workload, write

CSV = "arrival_seconds,duration_seconds,organization,priority,cpu_cores,ram_gb,gpu_count,gpu_model"
OPENB = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,"
    "scheduled_time"
)
PHILLY = "timestamp,duration,num_gpus,gpu_time,cluster"


def test_the_csv_format_with_all_columns_and_with_the_required_ones(tmp_path: Path) -> None:
    path = write(
        tmp_path / "jobs.csv",
        "arrival_seconds,duration_seconds,name,organization,priority,cpu_cores,ram_gb,gpu_count,gpu_model,"
        "replicas,replica_placement,preemptible,min_runtime_seconds",
        '100,60.5,"train, big",vision,HIGH,2.5,8,2,A100|H100,3,spread,no,90',
        "130,,,,,0.5,,,,,,,",
    )
    found = list(open_workload(path).jobs())
    assert found == [
        Job(
            1,
            0.0,
            60.5,
            Shape(2500, 8192, 2000, ("A100", "H100")),
            "vision",
            750,
            False,
            3,
            False,
            True,
            90.0,
        ),
        Job(2, 30.0, math.inf, Shape(500, 0, 0), "default", 500, True, 1),
    ]


@pytest.mark.parametrize("column", ["replica_placement", "placement"])
def test_the_placement_of_replicas_by_its_name_and_its_old_name(tmp_path: Path, column: str) -> None:
    rows = [f"{second},1,1,2,{text}" for second, text in enumerate(("spread", "SPREAD", "pack", ""))]
    path = write(
        tmp_path / "jobs.csv", f"arrival_seconds,duration_seconds,gpu_count,replicas,{column}", *rows
    )
    assert [found.spread for found in open_workload(path).jobs()] == [True, True, False, False]


def test_rows_are_sorted_by_arrival_and_then_by_position(tmp_path: Path) -> None:
    path = write(
        tmp_path / "jobs.csv",
        "arrival_seconds,duration_seconds,organization,gpu_count",
        "30,1,c,1",
        "",
        "10,1,a,1",
        "30,1,d,1",
        "20,1,b,1",
    )
    opened = open_workload(path)
    assert (opened.count, opened.span) == (4, 20.0)
    for _ in range(2):
        assert [(found.id, found.arrival, found.organization) for found in opened.jobs()] == [
            (1, 0.0, "a"), (2, 10.0, "b"), (3, 20.0, "c"), (4, 20.0, "d")
        ]  # fmt: skip
    limited = open_workload(path, limit=2)
    assert [found.organization for found in limited.jobs()] == ["a", "b"]
    assert (limited.count, limited.span) == (2, 10.0)


def test_openb_pods(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pods.csv",
        OPENB,
        "openb-pod-0000,12000,16384,1,1000,,LS,Running,0,12537496,0",
        "openb-pod-0001,6000,12288,1,460,V100M16|V100M32,BE,Running,427061,12902960,427100",
        "openb-pod-0002,3000,1024,0,0,,Guaranteed,Pending,500000,500010,",
        "openb-pod-0003,3000,1024,8,1000,,Burstable,Failed,500000,500010,500000",
    )
    opened = open_workload(path)
    assert opened.format.name == "openb"
    assert list(opened.jobs()) == [
        Job(1, 0.0, 12537496.0, Shape(12000, 16384, 1000), "openb", 1000),
        Job(2, 427061.0, 12475860.0, Shape(6000, 12288, 460, ("V100M16", "V100M32")), "openb", 100),
        Job(3, 500000.0, 10.0, Shape(3000, 1024, 0), "openb", 750),
        Job(4, 500000.0, 10.0, Shape(3000, 1024, 8000), "openb", 500),
    ]


def test_philly_jobs(tmp_path: Path) -> None:
    path = write(
        tmp_path / "philly.csv",
        PHILLY,
        "2017-10-09 07:01:55,66.0,1,66.0,11cb48",
        "2017-10-09 06:13:03,2951.0,8,23608.0,6214e9",
    )
    opened = open_workload(path)
    assert opened.origin == 1507529583.0
    assert list(opened.jobs()) == [
        Job(1, 0.0, 2951.0, Shape(0, 0, 8000), "6214e9", divisible=True),
        Job(2, 2932.0, 66.0, Shape(0, 0, 1000), "11cb48", divisible=True),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([CSV, "0,1,a,LOW,1,1,0,", "x,1,a,LOW,1,1,0,"], ":3: arrival_seconds must be a number, not 'x'"),
        ([CSV, "-1,1,a,LOW,1,1,0,"], ":2: arrival_seconds must be a finite number from 0 up"),
        ([CSV, "0,nan,a,LOW,1,1,0,"], ":2: duration_seconds must be a finite number"),
        ([CSV, "0,1,a,URGENT,1,1,0,"], ":2: priority must be one of LOW, MEDIUM"),
        ([CSV, "0,1,a,LOW,1,1,1.5,"], ":2: a GPU request must be a fraction below 1 or a whole number"),
        ([CSV, "0,1,a,LOW,,,,"], ":2: the request is empty"),
        ([CSV + ",replicas", "0,1,a,LOW,1,1,0,,0"], ":2: replicas must be from 1 to 64, not 0"),
        ([CSV + ",placement", "0,1,a,LOW,1,1,0,,wide"], ":2: placement must be pack or spread, not 'wide'"),
        (
            [CSV + ",replica_placement", "0,1,a,LOW,1,1,0,,wide"],
            ":2: replica_placement must be pack or spread, not 'wide'",
        ),
        (
            [CSV + ",placement,replica_placement", "0,1,a,LOW,1,1,0,,pack,pack"],
            ":1: give replica_placement only; placement is its old name",
        ),
        (
            [CSV + ",replica_placment", "0,1,a,LOW,1,1,0,,pack"],
            ":1: unknown column 'replica_placment'; did you mean replica_placement?",
        ),
        ([CSV, "0,1,a,LOW,1,1"], ":2: 6 fields, but the header names 8 columns"),
        ([CSV, '0,1,"a,LOW,1,1,0,'], ":2: the line is not valid UTF-8 CSV"),
        ([CSV], ": the file has no jobs"),
        (
            [CSV + ",gpu_models", "0,1,a,LOW,1,1,0,,1"],
            ":1: unknown column 'gpu_models'; did you mean gpu_model?",
        ),
        (["arrival_seconds,gpu_count", "0,1"], ":1: the column is missing: duration_seconds; "),
        (["a,b", "0,1"], ":1: the columns match no known format: a, b. "),
        (["a,a", "0,1"], ":1: two columns have the same name"),
        ([OPENB, "p,1,1,2,460,,LS,Running,0,1,0"], ":2: gpu_milli must be 1000"),
        ([OPENB, "p,1,1,1,1460,,LS,Running,0,1,0"], ":2: gpu_milli must be from 1 to 1000"),
        ([OPENB, "p,1,1,1,460,,XL,Running,0,1,0"], ":2: qos must be one of LS"),
        ([OPENB, "p,1,1,1,460,,LS,Running,5,1,"], ":2: deletion_time is before the start of the pod"),
        ([PHILLY, "9 Oct,66.0,1,66.0,11cb48"], ":2: timestamp must be like"),
        ([PHILLY, "2017-10-09 07:01:55,66.0,0,66.0,11cb48"], ":2: num_gpus must be at least 1"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "bad.csv", *lines)
    with pytest.raises(WorkloadError) as refused:
        open_workload(path)
    assert str(refused.value).startswith(f"{path}{message}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="No such file"):
        open_workload(tmp_path / "nowhere.csv")


def test_node_lists(tmp_path: Path) -> None:
    openb = write(
        tmp_path / "openb.csv",
        "sn,cpu_milli,memory_mib,gpu,model",
        "a,64000,262144,2,P100",
        "b,96000,1024,0,",
    )
    assert read_nodes(openb) == (NodeSpec("a", 64000, 262144, 2, "P100"), NodeSpec("b", 96000, 1024, 0))
    own_format = write(
        tmp_path / "nodes.csv",
        "name,count,cpu_cores,ram_gb,gpu_count,gpu_model",
        "big,2,64,512,8,A100",
        "x,,,,1,",
    )
    assert read_nodes(own_format) == (
        NodeSpec("big-1", 64000, 524288, 8, "A100"),
        NodeSpec("big-2", 64000, 524288, 8, "A100"),
        NodeSpec("x", UNLIMITED, UNLIMITED, 1),
    )
    with pytest.raises(WorkloadError, match=r"bad.csv:2: a node has at most 64 GPUs, not 65"):
        read_nodes(write(tmp_path / "bad.csv", "name,gpu_count", "x,65"))


QUOTAS = (
    "organization,guaranteed_cpu,guaranteed_ram_gb,guaranteed_gpu,limit_cpu,limit_ram_gb,limit_gpu,weight"
)


def test_quotas(tmp_path: Path) -> None:
    path = write(tmp_path / "quotas.csv", QUOTAS, "vision,8,,4,,16,0,2.5", "speech,,,,,,,")
    assert read_quotas(path) == (
        QuotaTerms("vision", (8000, None, 4000), (None, 16384, 0), 2.5),
        QuotaTerms("speech", (None, None, None), (None, None, None), 1.0),
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([QUOTAS, "a,,,,,,,0"], ":2: weight must be from 0.001 to 1000, not 0"),
        ([QUOTAS, "a,,,,,,,", "a,,,,,,,"], ":3: a has two rows"),
        ([QUOTAS, "a,-1,,,,,,"], ":2: guaranteed_cpu must be a finite number from 0 up"),
        ([QUOTAS], ": the file has no organizations"),
        (["organization,limit", "a,1"], ":1: unknown column 'limit'"),
        (["name,weight", "a,1"], ":1: the column is missing: organization; required columns are "),
    ],
)
def test_bad_quotas_are_refused_with_their_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "bad.csv", *lines)
    with pytest.raises(WorkloadError) as refused:
        read_quotas(path)
    assert str(refused.value).startswith(f"{path}{message}")


def test_scaling_is_random_with_a_seed() -> None:
    jobs = workload(*(job(float(number), 1) for number in range(1000)))
    more = scale(jobs, 1.3, seed=1)
    drawn = list(more.jobs())
    assert more.count == len(drawn)
    assert 1250 < more.count < 1350
    assert [found.id for found in drawn] == list(range(1, more.count + 1))
    assert list(scale(jobs, 1.3, seed=1).jobs()) == drawn
    assert list(scale(jobs, 1.3, seed=2).jobs()) != drawn
    assert 0 < scale(jobs, 0.5, seed=1).count < 600
    with pytest.raises(WorkloadError):
        scale(ListedWorkload("none", ()), 0.0, 1)
