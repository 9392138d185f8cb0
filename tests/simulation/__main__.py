"""Plays histories: `--seed N` one of them with all that happens in it, `--seeds N` many (from `--first`)."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.history import History, play, silence


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and show what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to play")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--logs", action="store_true", help="show what the servers log")
    asked = parser.parse_args()
    if not asked.logs:
        silence()
    if asked.seed is not None:
        history = play(asked.seed)
        print("\n".join([str(history.faults), *history.lines, *(f"WRONG {one}" for one in history.wrong)]))
        return 1 if history.wrong else 0
    return _play_many(range(asked.first, asked.first + asked.seeds))


def _play_many(seeds: range) -> int:
    began, failed = time.process_time(), 0
    total = History(0, play(seeds.start).faults)
    for seed in seeds:
        history = play(seed)
        total.requests += history.requests
        total.servers += history.servers
        total.attempts += history.attempts
        total.preemptions += history.preemptions
        if history.wrong:
            failed += 1
            print(f"seed {seed}: " + "; ".join(history.wrong[:5]), flush=True)
    took = time.process_time() - began
    print(
        f"{len(seeds)} histories: {total.requests} requests, {total.attempts} attempts, "
        f"{total.preemptions} preemptions, {total.servers} servers; {failed} went wrong; "
        f"{took:.1f} s of CPU, {took / len(seeds) * 1000:.0f} ms each"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
