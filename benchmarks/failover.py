"""How long nothing is scheduled when the scheduler of a cluster dies, and when it is stopped.

`python -m benchmarks.failover` runs one API replica and two schedulers on one PostgreSQL, with the default
times of leases. Again and again the one that holds the cluster is killed with SIGKILL, or told to stop with
SIGTERM; a deployment is submitted at that moment, and the clock stops when it was placed (`scheduled`) and
when it was seen running (`running`). One JSON line at the end, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from contextlib import ExitStack

from tests.support.people import somebody
from tests.support.postgres import find_binaries
from tests.support.postgres import running_server as running_postgres
from tests.support.replicas import Replicas, replicas
from tests.support.servers import scratch_directory

from benchmarks.support.embedded_server import PATIENCE, percentile
from benchmarks.support.report import print_report
from hypervisor.client import Client
from hypervisor.store.migrations.runner import upgrade

_LOOK_EVERY = 0.02
_ENDS = {"death": signal.SIGKILL, "stop": signal.SIGTERM}
_SCHEDULERS = ("scheduler-1", "scheduler-2")


def main() -> None:
    """Measure and print."""
    arguments = _parse()
    count = 2 if arguments.small else arguments.count
    chance = random.Random(arguments.seed)
    figures: dict[str, dict[str, list[float]]] = {end: {"scheduled": [], "running": []} for end in _ENDS}
    with ExitStack() as stack:
        servers, client, lease = _installation(stack, arguments.lease_seconds)
        for turn in range(count):
            for end in _ENDS:
                # The end may come at any moment between two renewals.
                time.sleep(chance.uniform(0, arguments.lease_seconds * 2 / 3))
                took = _one(servers, client, lease, end)
                print(f"{end} {turn + 1} of {count}: {took}", file=sys.stderr, flush=True)
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
    """The servers, a person who is logged in, and the lease of the person's cluster."""
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
            # People wait longer than a login lasts by default.
            ACCESS_TOKEN_EXPIRE_MINUTES="1440",
        )
    )
    api = servers.start("api", "api")
    for name in _SCHEDULERS:
        servers.start(name, "scheduler")
    client = stack.enter_context(somebody(api.url))
    cluster = client.clusters.create("bench", {"total_cpu_cores": 64, "total_ram_gb": 64})
    return servers, client, f"cluster:{cluster['id']}"


def _one(servers: Replicas, client: Client, lease: str, end: str) -> dict[str, float]:
    """End the holder once and start it again; seconds until a new deployment was placed and ran."""
    gone = servers.servers[servers.held(lease)]
    assert gone.process is not None
    began = time.monotonic()
    gone.process.send_signal(_ENDS[end])
    job = client.deployments.create({"name": end, "kind": "service"})["id"]
    took = {
        "scheduled": _until(client, job, {"STARTING", "RUNNING"}) - began,
        "running": _until(client, job, {"RUNNING"}) - began,
    }
    client.deployments.stop(job)
    gone.process.wait(PATIENCE)
    gone.start()
    return {name: round(seconds, 3) for name, seconds in took.items()}


def _until(client: Client, deployment_id: int, states: set[str]) -> float:
    """The monotonic time at which it is in one of the states. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while client.deployments.get(deployment_id)["status"] not in states:
        if time.monotonic() > deadline:
            raise TimeoutError(f"deployment {deployment_id} never came into {sorted(states)}")
        time.sleep(_LOOK_EVERY)
    return time.monotonic()


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": max(values),
        "count": len(values),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how long a scheduler's death and stop are felt.")
    parser.add_argument("--count", type=int, default=20, help="how often each of the two")
    parser.add_argument("--lease-seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a quick run: twice each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
