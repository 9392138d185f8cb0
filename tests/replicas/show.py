"""The blows, the looks between them, and what came of everything that was accepted."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from hypervisor.lifecycle.states import ENDED, State
from tests.chaos.rig import Rig, rig_on
from tests.replicas.crowd import Crowd
from tests.support.invariants import MOVED, PREEMPTION

INVARIANTS = tuple(f"I{number}" for number in range(1, 12))
RESTARTED_AFTER = 2.0
"""Seconds, as the systemd units have it."""
_NUMBER = re.compile(r"I\d+")


@dataclass
class Outcome:
    """What one run has shown. `wrong` holds each violation once, as a sentence."""

    minutes: float
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    when_the_load_ended: dict[str, int] = field(default_factory=dict)
    at_rest: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, found: Sequence[str]) -> None:
        """One look and what was wrong in it."""
        self.looks += 1
        self.wrong += [one for one in found if one not in self.wrong]

    def summary(self) -> dict[str, Any]:
        """What is printed: counts of deployments, of kills and of violations by invariant."""
        numbers = Counter(found.group() if (found := _NUMBER.match(one)) else "other" for one in self.wrong)
        return {
            "show": "two schedulers and two API replicas, one of each killed again and again",
            "minutes": self.minutes,
            "seed": self.seed,
            **self.at_rest,
            **self.figures,
            "kills": dict(self.kills),
            "when_the_load_ended": self.when_the_load_ended,
            "looks": self.looks,
            "violations": {name: numbers[name] for name in (*INVARIANTS, "other")},
            "wrong": self.wrong[:20],
        }


def play(
    folder: Path, database_url: str, outcome: Outcome, *, every: float, load: float, **settings: str
) -> None:
    """Keep replicas busy for `outcome.minutes` and kill one of each kind every `every` seconds.

    `load` is seconds between two requests of one person; `settings` are those of all servers.
    """
    random = Random(outcome.seed)
    with rig_on(folder, database_url, apis=2, schedulers=2, engine=None, **settings) as rig:
        crowd = Crowd(rig, folder / "witness", outcome.seed, every=load)
        began = datetime.now(UTC)
        with _busy(crowd):
            _strike_until(rig, outcome, random, every)
            ended = datetime.now(UTC)
        outcome.when_the_load_ended = _census(rig)
        _come_to_rest(rig, outcome)
        outcome.at_rest = _census(rig)
        outcome.figures = {
            "doubled": _doubled(rig, crowd, outcome),
            "healthy_killed": sum("healthy work" in one for one in outcome.wrong),
            "repeated_requests": crowd.repeated,
            "longest_without_an_answer_s": round(crowd.slowest, 1),
            "longest_without_a_placement_s": round(_longest_pause(rig, began, ended), 1),
            "preemptions": sum(one["type"] == PREEMPTION for one in rig.read().events),
        }


@contextmanager
def _busy(crowd: Crowd) -> Iterator[None]:
    crowd.start()
    try:
        yield
    finally:
        crowd.stop()


def _strike_until(rig: Rig, outcome: Outcome, random: Random, every: float) -> None:
    over = time.monotonic() + outcome.minutes * 60
    struck = time.monotonic()
    while (struck := struck + every) < over:
        _sleep_until(struck)
        victims = (("api", random.choice(rig.apis)), ("scheduler", random.choice(rig.schedulers)))
        for role, victim in victims:
            victim.kill()
            outcome.kills[role] += 1
        _sleep_until(struck + RESTARTED_AFTER)
        for _, victim in victims:
            victim.start()
        outcome.note(rig.wrong_under_load())
    _sleep_until(over)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _come_to_rest(rig: Rig, outcome: Outcome) -> None:
    try:
        rig.settle()
        outcome.note([])
    except AssertionError as error:
        outcome.note(str(error).splitlines())


def _census(rig: Rig) -> dict[str, int]:
    """Everything accepted and not deleted since, by where it is now."""
    states = {row["id"]: State(row["state"]) for row in rig.read().deployments}
    kept = [id_ for name, id_ in rig.ledger.accepted.items() if name not in rig.ledger.deleted]
    counts = Counter(_place(states.get(id_)) for id_ in kept)
    places = ("ended", "queued", "running", "lost")
    return {
        "accepted": len(rig.ledger.accepted),
        "deleted": len(rig.ledger.accepted) - len(kept),
        **{place: counts[place] for place in places},
    }


def _place(state: State | None) -> str:
    if state is None:
        return "lost"
    if state in ENDED:
        return "ended"
    return "queued" if state in (State.QUEUED, State.BLOCKED) else "running"


def _doubled(rig: Rig, crowd: Crowd, outcome: Outcome) -> int:
    """Requests that made two deployments, instances begun twice, replicas that ran twice at once."""
    names = Counter(row["name"] for row in rig.read().deployments)
    twice = [f"{name} exists {count} times" for name, count in names.items() if count > 1]
    twice += [f"{name} was begun twice" for name in crowd.begun_twice()]
    twice += [one for one in outcome.wrong if one.startswith("I4")]
    outcome.note(twice)
    return len(twice)


def _longest_pause(rig: Rig, began: datetime, ended: datetime) -> float:
    """Seconds between two placements while people kept asking, at most."""
    placed: list[datetime] = [
        event["at"]
        for event in rig.read().events
        if event["type"] == MOVED and event["to_state"] == State.STARTING and began <= event["at"] <= ended
    ]
    return max((later - earlier).total_seconds() for earlier, later in pairwise([began, *placed, ended]))
