"""Mixed load on one server for some minutes; each minute the load rests, and the invariants must hold.

Memory and descriptors of the server must not grow after the first two minutes. Ends with 1 if they do.
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
from tests.chaos.rig import Rig, cancelling, rig_on
from tests.support.postgres import find_binaries, running_server
from tests.support.servers import scratch_directory

PEOPLE = 2
MOST_KEPT = 50
"""So many deployments of each person are kept; older ones are deleted."""
WARM_AFTER = 2
"""Minutes after which caches and pools have their size."""
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
    asked = parser.parse_args()
    with scratch_directory("hv-soak-") as scratch, running_server(find_binaries(scratch), scratch) as url:
        asyncio.run(upgrade(url))
        with rig_on(scratch / "rig", url) as rig:
            return _soak(rig, asked.minutes, Random(asked.seed))


def _soak(rig: Rig, minutes: int, random: Random) -> int:
    seen: list[Measured] = []
    for minute in range(1, minutes + 1):
        requests = _load(rig, 60.0, random)
        rig.settle()
        seen.append(_measure(rig.server.pid, minute, requests))
        one = seen[-1]
        print(
            f"minute {minute}: {requests} requests, {one.rss_mib:.0f} MiB, {one.descriptors} descriptors, "
            f"{len(rig.ids)} deployments; all invariants hold",
            flush=True,
        )
    return _judge(seen)


def _load(rig: Rig, seconds: float, random: Random) -> int:
    """Let people work for so long; how much they asked."""
    until = time.monotonic() + seconds
    counts: list[int] = []
    people = [
        threading.Thread(
            target=lambda seed: counts.append(_work(rig, Random(seed), until)), args=(random.random(),)
        )
        for _ in range(PEOPLE)
    ]
    for one in people:
        one.start()
    for one in people:
        one.join()
    return sum(counts)


def _work(rig: Rig, random: Random, until: float) -> int:
    asked, mine = 0, []
    while time.monotonic() < until:
        asked += 1
        made = rig.submit(
            command=["sleep", str(random.choice((0, 0.1, 1)))],
            kind=random.choice(("job", "job", "service")),
            restart_policy="never",
            priority=random.choice(("LOW", "MEDIUM", "HIGH")),
            cluster_id=random.choice((rig.cluster, rig.small)),
        )
        if made is None:
            continue
        mine.append(made)
        if random.random() < 0.2:
            chosen = random.choice(mine)
            rig.ask_in_vain(cancelling(chosen))
        if random.random() < 0.3:
            rig.ask_in_vain(lambda client: client.deployments.page())
        if len(mine) > MOST_KEPT:
            rig.delete(mine.pop(0))
    for one in mine:
        rig.delete(one)
    return asked


def _measure(pid: int, minute: int, requests: int) -> Measured:
    status = Path(f"/proc/{pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return Measured(minute, requests, rss, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def _judge(seen: list[Measured]) -> int:
    warm = seen[WARM_AFTER - 1 :]
    if len(warm) < 2:
        print("too short to tell whether anything grows")
        return 0
    first, last = warm[0], warm[-1]
    grown = last.rss_mib - first.rss_mib
    opened = last.descriptors - first.descriptors
    flat = grown <= MORE_MIB and opened <= MORE_DESCRIPTORS
    word = "flat" if flat else "GROWS"
    print(f"{word}: {grown:+.0f} MiB, {opened:+d} descriptors since minute {first.minute}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
