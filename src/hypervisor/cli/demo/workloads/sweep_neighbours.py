"""A low-priority job: the accuracy of k-nearest-neighbours on iris for k = 1, 3, 5, ... (leave one out).

Each step is saved in a file, and every third one is reported as a checkpoint. Lost work counts from the last
report. On SIGTERM the job exits; the next run resumes from the file. IRIS_CSV is the data, CHECKPOINT the
progress file, STEPS the number of values of k, PAUSE the seconds between two steps (to keep the CPU load
low). The job ends only when the file FINISH_FILE exists.
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
"""Steps between two reports. The server stores at most one report per second."""

Flower = tuple[tuple[float, ...], str]


def main() -> None:
    flowers = load(Path(os.environ["IRIS_CSV"]))
    checkpoint = Path(os.environ["CHECKPOINT"])
    steps = int(os.environ["STEPS"])
    scores: dict[str, float] = json.loads(checkpoint.read_text()) if checkpoint.exists() else {}
    if scores:
        log(f"resumed from the checkpoint{previous_attempt()}: {len(scores)} values of k are done")
    signal.signal(signal.SIGTERM, stop)
    for step in range(len(scores), steps):
        k = 2 * step + 1
        scores[str(k)] = leave_one_out(flowers, k)
        save(checkpoint, scores)
        if step % REPORT_EVERY == 0:
            report(progress=len(scores) / steps, step=len(scores), path=str(checkpoint))
        log(f"k={k:<3} accuracy {scores[str(k)]:.4f}")
        time.sleep(float(os.environ["PAUSE"]))
    while not Path(os.environ["FINISH_FILE"]).exists():
        time.sleep(0.1)
    best = max(scores, key=lambda k: (scores[k], -int(k)))
    log(f"best: k={best} with accuracy {scores[best]:.4f}")


def previous_attempt() -> str:
    attempt = previous()
    return f" of attempt {attempt['attempt']} ({attempt['outcome']})" if attempt else ""


def load(path: Path) -> list[Flower]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(tuple(map(float, row[:4])), row[4]) for row in rows]


def leave_one_out(flowers: list[Flower], k: int) -> float:
    """The share of flowers whose k nearest neighbours vote for the correct species."""
    correct = sum(vote(flowers, index, k) == species for index, (_, species) in enumerate(flowers))
    return correct / len(flowers)


def vote(flowers: list[Flower], left_out: int, k: int) -> str:
    point = flowers[left_out][0]
    distances = sorted(
        (sum((a - b) ** 2 for a, b in zip(point, other, strict=True)), species)
        for index, (other, species) in enumerate(flowers)
        if index != left_out
    )
    return Counter(species for _, species in distances[:k]).most_common(1)[0][0]


def save(path: Path, scores: dict[str, float]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(scores))
    draft.replace(path)


def stop(_number: int, _frame: FrameType | None) -> None:
    log("received SIGTERM: progress is saved, exiting")
    sys.exit(0)


def log(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
