"""Runs the scenario on a durable PostgreSQL and one Redis, and prints the result as one line of JSON.

Exit status 1 if an accepted deployment was lost or duplicated, or an invariant was violated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import ExitStack

from benchmarks.support.postgres_servers import DURABLE
from benchmarks.support.report import load_average, machine

from hypervisor.store.migrations.runner import upgrade
from tests.replicas.scenario import Outcome, play
from tests.support import redis
from tests.support.postgres import find_binaries, running_server
from tests.support.servers import scratch_directory


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replicas", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--every", type=float, default=20, help="seconds between kills")
    parser.add_argument("--load", type=float, default=0.4, help="seconds between requests of each client")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    outcome = Outcome(arguments.minutes, arguments.seed)
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory("hv-replicas-"))
        url = stack.enter_context(running_server(find_binaries(scratch), scratch, **DURABLE))
        asyncio.run(upgrade(url))
        index = stack.enter_context(redis.running_server(redis.any_binary()))
        play(scratch / "rig", url, outcome, every=arguments.every, load=arguments.load, REDIS_URL=index.url)
    print(json.dumps({**outcome.summary(), "machine": machine(), "load_average": load_average()}))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
