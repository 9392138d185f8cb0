"""The scheduling gap after the death and after the stop of a scheduler.

`python -m benchmarks.failover` runs one API server and two schedulers on one PostgreSQL, with the default
lease times. It repeatedly ends the scheduler that holds the cluster, by SIGKILL (`death`) or SIGTERM
(`stop`), and submits a deployment at that time. It measures the seconds until the deployment is placed
(`scheduled`) and until it runs (`running`).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from contextlib import ExitStack

from tests.support.people import registered_client
from tests.support.postgres import find_binaries
from tests.support.postgres import running_server as running_postgres
from tests.support.replicas import Replicas, replicas
from tests.support.servers import scratch_directory

from benchmarks.support.embedded_server import TIMEOUT, percentile
from benchmarks.support.report import print_report
from hypervisor.client import Client
from hypervisor.store.migrations.runner import upgrade

_POLL_SECONDS = 0.02
_ENDS = {"death": signal.SIGKILL, "stop": signal.SIGTERM}
_SCHEDULERS = ("scheduler-1", "scheduler-2")


def main() -> None:
    """Measure and print the report."""
    arguments = _parse()
    count = 2 if arguments.small else arguments.count
    rng = random.Random(arguments.seed)
    figures: dict[str, dict[str, list[float]]] = {end: {"scheduled": [], "running": []} for end in _ENDS}
    with ExitStack() as stack:
        servers, client, lease = _installation(stack, arguments.lease_seconds)
        for number in range(count):
            for end in _ENDS:
                # The end happens at a random time between two renewals of the lease.
                time.sleep(rng.uniform(0, arguments.lease_seconds * 2 / 3))
                took = _measure_end(servers, client, lease, end)
                print(f"{end} {number + 1} of {count}: {took}", file=sys.stderr, flush=True)
                for name, seconds in took.items():
                    figures[end][name].append(seconds)
    print_report(
        "failover",
        {
            "lease_seconds": arguments.lease_seconds,
            **{
                end: {name: _summary(values) for name, values in both.items()}
                for end, both in figures.items()
            },
        },
    )


def _installation(stack: ExitStack, lease_seconds: float) -> tuple[Replicas, Client, str]:
    """The servers, a logged-in client, and the lease of the client's cluster."""
    scratch = stack.enter_context(scratch_directory("hv-bench-"))
    url = stack.enter_context(running_postgres(find_binaries(scratch), scratch))
    asyncio.run(upgrade(url))
    servers = stack.enter_context(
        replicas(
            scratch / "servers",
            url,
            LEASE_SECONDS=str(lease_seconds),
            SCHEDULER_INTERVAL="5",
            DEFAULT_RUNTIME="simulated",
            # The benchmark runs longer than the default lifetime of an access token.
            ACCESS_TOKEN_EXPIRE_MINUTES="1440",
        )
    )
    api = servers.start("api", "api")
    for name in _SCHEDULERS:
        servers.start(name, "scheduler")
    client = stack.enter_context(registered_client(api.url))
    cluster = client.clusters.create("bench", {"total_cpu_cores": 64, "total_ram_gb": 64})
    return servers, client, f"cluster:{cluster['id']}"


def _measure_end(servers: Replicas, client: Client, lease: str, end: str) -> dict[str, float]:
    """End the lease holder and start it again.

    Returns the seconds until a new deployment is placed and runs.
    """
    ended = servers.servers[servers.held(lease)]
    assert ended.process is not None
    began = time.monotonic()
    ended.process.send_signal(_ENDS[end])
    job = client.deployments.create({"name": end, "kind": "service"})["id"]
    took = {
        "scheduled": _until(client, job, {"STARTING", "RUNNING"}) - began,
        "running": _until(client, job, {"RUNNING"}) - began,
    }
    client.deployments.stop(job)
    ended.process.wait(TIMEOUT)
    ended.start()
    return {name: round(seconds, 3) for name, seconds in took.items()}


def _until(client: Client, deployment_id: int, states: set[str]) -> float:
    """The monotonic time at which the deployment is in one of the states. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT
    while client.deployments.get(deployment_id)["status"] not in states:
        if time.monotonic() > deadline:
            raise TimeoutError(f"deployment {deployment_id} did not reach {sorted(states)}")
        time.sleep(_POLL_SECONDS)
    return time.monotonic()


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": max(values),
        "count": len(values),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the scheduling gap after a death and a stop.")
    parser.add_argument("--count", type=int, default=20, help="deaths and stops to measure (default 20 each)")
    parser.add_argument("--lease-seconds", type=float, default=15.0, help="LEASE_SECONDS (default 15)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a quick run: two deaths and two stops")
    return parser.parse_args()


if __name__ == "__main__":
    main()
