"""Mixed load on one server; the load pauses each minute, and the invariants must hold.

Exit status 1 if the memory or the descriptors of the server grow after the first two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hypervisor.store.migrations.runner import upgrade
from tests.chaos.rig import Rig, cancelling, running_rig
from tests.support.postgres import find_binaries, running_server
from tests.support.servers import scratch_directory

CLIENTS = 2
MOST_KEPT = 50
"""Deployments that each client keeps; older ones are deleted."""
WARM_AFTER = 2
"""Minutes until caches and pools have their final size."""
MORE_MIB = 24
MORE_DESCRIPTORS = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """The server at the end of one minute."""

    minute: int
    requests: int
    rss_mib: float
    descriptors: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with scratch_directory("hv-soak-") as scratch, running_server(find_binaries(scratch), scratch) as url:
        asyncio.run(upgrade(url))
        with running_rig(scratch / "rig", url) as rig:
            return _soak(rig, arguments.minutes, Random(arguments.seed))


def _soak(rig: Rig, minutes: int, random: Random) -> int:
    measurements: list[Measured] = []
    for minute in range(1, minutes + 1):
        requests = _load(rig, 60.0, random)
        rig.settle()
        measurements.append(_measure(rig.server.pid, minute, requests))
        item = measurements[-1]
        print(
            f"minute {minute}: {requests} requests, {item.rss_mib:.0f} MiB, {item.descriptors} descriptors, "
            f"{len(rig.ids)} deployments; all invariants hold",
            flush=True,
        )
    return _print_growth(measurements)


def _load(rig: Rig, seconds: float, random: Random) -> int:
    """Run the clients for some seconds; the number of their requests."""
    deadline = time.monotonic() + seconds
    counts: list[int] = []
    threads = [
        threading.Thread(
            target=lambda seed: counts.append(_work(rig, Random(seed), deadline)), args=(random.random(),)
        )
        for _ in range(CLIENTS)
    ]
    for item in threads:
        item.start()
    for item in threads:
        item.join()
    return sum(counts)


def _work(rig: Rig, random: Random, deadline: float) -> int:
    arguments, submitted = 0, []
    while time.monotonic() < deadline:
        arguments += 1
        job = rig.submit(
            command=["sleep", str(random.choice((0, 0.1, 1)))],
            kind=random.choice(("job", "job", "service")),
            restart_policy="never",
            priority=random.choice(("LOW", "MEDIUM", "HIGH")),
            cluster_id=random.choice((rig.cluster, rig.small)),
        )
        if job is None:
            continue
        submitted.append(job)
        if random.random() < 0.2:
            chosen = random.choice(submitted)
            rig.request_or_ignore(cancelling(chosen))
        if random.random() < 0.3:
            rig.request_or_ignore(lambda client: client.deployments.page())
        if len(submitted) > MOST_KEPT:
            rig.delete(submitted.pop(0))
    for item in submitted:
        rig.delete(item)
    return arguments


def _measure(pid: int, minute: int, requests: int) -> Measured:
    status = Path(f"/proc/{pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return Measured(minute, requests, rss, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def _print_growth(measurements: list[Measured]) -> int:
    warm = measurements[WARM_AFTER - 1 :]
    if len(warm) < 2:
        print("too short to measure growth")
        return 0
    first, last = warm[0], warm[-1]
    growth = last.rss_mib - first.rss_mib
    descriptors_growth = last.descriptors - first.descriptors
    flat = growth <= MORE_MIB and descriptors_growth <= MORE_DESCRIPTORS
    verdict = "flat" if flat else "GROWS"
    print(f"{verdict}: {growth:+.0f} MiB, {descriptors_growth:+d} descriptors since minute {first.minute}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
