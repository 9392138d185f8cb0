"""A low-priority job: how well k-nearest-neighbours does on iris for k = 1, 3, 5, ... (leave one out).

Real work in small steps, each kept in a file and now and then reported: what is lost when this job has to
yield counts from there. On SIGTERM it leaves; the next run takes it up where the file ends.
IRIS_CSV is the data, CHECKPOINT the file for the progress, STEPS how many k, PAUSE seconds between two
(so that a small machine stays quiet). It does not end before the file CUE is there.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from hypervisor.client.checkpoint import previous, report

REPORT_EVERY = 3
"""Steps; the server keeps at most one report a second."""

Flower = tuple[tuple[float, ...], str]


def main() -> None:
    flowers = load(Path(os.environ["IRIS_CSV"]))
    checkpoint = Path(os.environ["CHECKPOINT"])
    steps = int(os.environ["STEPS"])
    scores: dict[str, float] = json.loads(checkpoint.read_text()) if checkpoint.exists() else {}
    if scores:
        say(f"resumed from the checkpoint{of_whom()}: {len(scores)} values of k are done")
    signal.signal(signal.SIGTERM, leave)
    for step in range(len(scores), steps):
        k = 2 * step + 1
        scores[str(k)] = leave_one_out(flowers, k)
        save(checkpoint, scores)
        if step % REPORT_EVERY == 0:
            report(progress=len(scores) / steps, step=len(scores), path=str(checkpoint))
        say(f"k={k:<3} accuracy {scores[str(k)]:.4f}")
        time.sleep(float(os.environ["PAUSE"]))
    while not Path(os.environ["CUE"]).exists():
        time.sleep(0.1)
    best = max(scores, key=lambda k: (scores[k], -int(k)))
    say(f"best: k={best} with accuracy {scores[best]:.4f}")


def of_whom() -> str:
    before = previous()
    return f" of attempt {before['attempt']} ({before['outcome']})" if before else ""


def load(path: Path) -> list[Flower]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(tuple(map(float, row[:4])), row[4]) for row in rows]


def leave_one_out(flowers: list[Flower], k: int) -> float:
    """The share of flowers that the k nearest others name rightly."""
    right = sum(vote(flowers, index, k) == species for index, (_, species) in enumerate(flowers))
    return right / len(flowers)


def vote(flowers: list[Flower], left_out: int, k: int) -> str:
    point = flowers[left_out][0]
    distances = sorted(
        (sum((a - b) ** 2 for a, b in zip(point, other, strict=True)), species)
        for index, (other, species) in enumerate(flowers)
        if index != left_out
    )
    return Counter(species for _, species in distances[:k]).most_common(1)[0][0]


def save(path: Path, scores: dict[str, float]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(scores))
    beside.replace(path)


def leave(_number: int, _frame: FrameType | None) -> None:
    say("asked to stop: progress is saved, leaving")
    sys.exit(0)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
