"""Plays histories: one with all its events (`--seed N`), or many (`--seeds N`, from `--first`)."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.history import History, play, silence


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history and print its events")
    parser.add_argument("--seeds", type=int, default=1000, help="number of histories")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--logs", action="store_true", help="print the logs of the servers")
    arguments = parser.parse_args()
    if not arguments.logs:
        silence()
    if arguments.seed is not None:
        history = play(arguments.seed)
        print(
            "\n".join(
                [
                    str(history.faults),
                    *history.lines,
                    *(f"WRONG {violation}" for violation in history.violations),
                ]
            )
        )
        return 1 if history.violations else 0
    return _play_many(range(arguments.first, arguments.first + arguments.seeds))


def _play_many(seeds: range) -> int:
    started_at, failed = time.process_time(), 0
    total = History(0, play(seeds.start).faults)
    for seed in seeds:
        history = play(seed)
        total.requests += history.requests
        total.servers += history.servers
        total.attempts += history.attempts
        total.preemptions += history.preemptions
        if history.violations:
            failed += 1
            print(f"seed {seed}: " + "; ".join(history.violations[:5]), flush=True)
    elapsed = time.process_time() - started_at
    print(
        f"{len(seeds)} histories: {total.requests} requests, {total.attempts} attempts, "
        f"{total.preemptions} preemptions, {total.servers} servers; {failed} failed; "
        f"{elapsed:.1f} s of CPU, {elapsed / len(seeds) * 1000:.0f} ms each"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
