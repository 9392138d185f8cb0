"""One-shot jobs a second: submitted in one batch, all ended.

`python -m benchmarks.throughput` runs batches on the process runtime (each job is `true`) and on the
simulated one (each lasts no time), interleaved, over HTTP on the embedded default, and prints one JSON line.
Beside them, `raw` starts and reaps the same processes from one Python loop without any service, as many at a
time as the cluster has cores: what the machine itself allows.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from typing import Any

from benchmarks.support.embedded_server import ENDED, Watch, served
from benchmarks.support.report import print_report
from hypervisor.client import Client

_CORES = 64


def main() -> None:
    """Measure and print."""
    arguments = _parse()
    jobs, repeat = (100, 2) if arguments.small else (arguments.jobs, arguments.repeat)
    rates: dict[str, list[float]] = {"raw": [], "process": [], "simulated": []}
    with (
        served("process", _CORES) as (process, process_cluster),
        served("simulated", _CORES) as (simulated, simulated_cluster),
    ):
        watches = Watch(process), Watch(simulated)
        for round_ in range(repeat + 1):
            found = {
                "raw": _raw(jobs),
                "process": _batch(process, watches[0], process_cluster, jobs, {"command": ["true"]}),
                "simulated": _batch(
                    simulated,
                    watches[1],
                    simulated_cluster,
                    jobs,
                    {"command": ["true"], "labels": {"simulate/duration": "0"}},
                ),
            }
            # The first round warms caches and is not counted.
            for side, rate in found.items() if round_ else ():
                rates[side].append(rate)
    median = {side: statistics.median(values) for side, values in rates.items()}
    print_report(
        "throughput",
        {
            "jobs": jobs,
            "jobs_per_second": {side: round(value, 1) for side, value in median.items()},
            "jobs_per_second_all": {side: [round(one, 1) for one in all_] for side, all_ in rates.items()},
            "process_over_raw": round(median["process"] / median["raw"], 3),
        },
    )


def _batch(client: Client, watch: Watch, cluster: int, jobs: int, fields: dict[str, Any]) -> float:
    """Jobs a second from the request until the event of the last end arrived."""
    one = {"cluster_id": cluster, "kind": "job", "required_cpu_cores": 1, "required_ram_gb": 0.5, **fields}
    members = [{"name": f"job-{number}", **one} for number in range(jobs)]
    began = time.monotonic()
    made = client.deployments.create_batch(members)
    ended = max(watch.when(deployment["id"], ENDED) for deployment in made)
    return jobs / (ended - began)


def _raw(jobs: int) -> float:
    began = time.monotonic()
    for first in range(0, jobs, _CORES):
        wave = [subprocess.Popen(["true"]) for _ in range(min(_CORES, jobs - first))]
        for child in wave:
            child.wait()
    return jobs / (time.monotonic() - began)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000, help="in one batch, at most 1,000")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="100 jobs, twice")
    return parser.parse_args()


if __name__ == "__main__":
    main()
