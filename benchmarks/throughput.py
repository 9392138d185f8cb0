"""Short jobs per second, from the submission of a batch to the end of all jobs.

`python -m benchmarks.throughput` runs batches on the process runtime (each job is `true`) and on the
simulated runtime (each job has duration 0), alternately, on an embedded server over HTTP. `raw` starts and
waits for the same processes in a Python loop without the server, as many at a time as the cluster has cores.
It is the limit of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from typing import Any

from benchmarks.support.embedded_server import ENDED, StateWatch, embedded_server
from benchmarks.support.report import print_report
from hypervisor.client import Client

_CORES = 64


def main() -> None:
    """Measure and print the report."""
    arguments = _parse()
    jobs, repeat = (100, 2) if arguments.small else (arguments.jobs, arguments.repeat)
    rates: dict[str, list[float]] = {"raw": [], "process": [], "simulated": []}
    with (
        embedded_server("process", _CORES) as (process, process_cluster),
        embedded_server("simulated", _CORES) as (simulated, simulated_cluster),
    ):
        watches = StateWatch(process), StateWatch(simulated)
        for round_ in range(repeat + 1):
            measured = {
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
            # The first round warms the caches and is not counted.
            for side, rate in measured.items() if round_ else ():
                rates[side].append(rate)
    median = {side: statistics.median(values) for side, values in rates.items()}
    print_report(
        "throughput",
        {
            "jobs": jobs,
            "jobs_per_second": {side: round(value, 1) for side, value in median.items()},
            "jobs_per_second_all": {
                side: [round(value, 1) for value in values] for side, values in rates.items()
            },
            "process_over_raw": round(median["process"] / median["raw"], 3),
        },
    )


def _batch(client: Client, watch: StateWatch, cluster: int, jobs: int, fields: dict[str, Any]) -> float:
    """Jobs per second, from the request to the event of the last end."""
    common = {"cluster_id": cluster, "kind": "job", "required_cpu_cores": 1, "required_ram_gb": 0.5, **fields}
    batch = [{"name": f"job-{number}", **common} for number in range(jobs)]
    began = time.monotonic()
    created = client.deployments.create_batch(batch)
    ended = max(watch.time_of(deployment["id"], ENDED) for deployment in created)
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
    parser.add_argument(
        "--jobs", type=int, default=1000, help="jobs of a batch, at most 1,000 (default 1,000)"
    )
    parser.add_argument("--repeat", type=int, default=5, help="number of rounds (default 5)")
    parser.add_argument("--small", action="store_true", help="a quick run: 100 jobs, two rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
