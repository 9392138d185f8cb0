"""The scenario: kills, checks between them, and the final state of all accepted deployments."""

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
from tests.chaos.rig import Rig, running_rig
from tests.replicas.load import LoadGenerator
from tests.support.invariants import MOVED, PREEMPTION

INVARIANTS = tuple(f"I{number}" for number in range(1, 12))
RESTARTED_AFTER = 2.0
"""Seconds, as in the systemd units."""
_NUMBER = re.compile(r"I\d+")


@dataclass
class Outcome:
    """The result of one run. `violations` has each violation once, as a sentence."""

    minutes: float
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    violations: list[str] = field(default_factory=list)
    after_load: dict[str, int] = field(default_factory=dict)
    at_rest: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, found: Sequence[str]) -> None:
        """Add the violations of one check."""
        self.checks += 1
        self.violations += [item for item in found if item not in self.violations]

    def summary(self) -> dict[str, Any]:
        """The printed result: counts of deployments, kills, and violations by invariant."""
        numbers = Counter(
            found.group() if (found := _NUMBER.match(item)) else "other" for item in self.violations
        )
        return {
            "show": "two schedulers and two API servers, one of each killed repeatedly",
            "minutes": self.minutes,
            "seed": self.seed,
            **self.at_rest,
            **self.figures,
            "kills": dict(self.kills),
            "when_the_load_ended": self.after_load,
            "checks": self.checks,
            "violations": {name: numbers[name] for name in (*INVARIANTS, "other")},
            "wrong": self.violations[:20],
        }


def play(
    folder: Path, database_url: str, outcome: Outcome, *, every: float, load: float, **settings: str
) -> None:
    """Send requests for `outcome.minutes` and kill one server of each kind every `every` seconds.

    `load`: seconds between two requests of one client; `settings`: the environment of all servers.
    """
    random = Random(outcome.seed)
    with running_rig(folder, database_url, apis=2, schedulers=2, engine=None, **settings) as rig:
        generator = LoadGenerator(rig, folder / "witness", outcome.seed, every=load)
        started = datetime.now(UTC)
        with _busy(generator):
            _strike_until(rig, outcome, random, every)
            ended = datetime.now(UTC)
        outcome.after_load = _census(rig)
        _come_to_rest(rig, outcome)
        outcome.at_rest = _census(rig)
        outcome.figures = {
            "doubled": _doubled(rig, generator, outcome),
            "healthy_killed": sum("healthy workload" in item for item in outcome.violations),
            "repeated_requests": generator.repeated,
            "longest_without_an_answer_s": round(generator.slowest, 1),
            "longest_without_a_placement_s": round(_longest_pause(rig, started, ended), 1),
            "preemptions": sum(item["type"] == PREEMPTION for item in rig.read().events),
        }


@contextmanager
def _busy(generator: LoadGenerator) -> Iterator[None]:
    generator.start()
    try:
        yield
    finally:
        generator.stop()


def _strike_until(rig: Rig, outcome: Outcome, random: Random, every: float) -> None:
    deadline = time.monotonic() + outcome.minutes * 60
    next_kill = time.monotonic()
    while (next_kill := next_kill + every) < deadline:
        _sleep_until(next_kill)
        victims = (("api", random.choice(rig.apis)), ("scheduler", random.choice(rig.schedulers)))
        for role, victim in victims:
            victim.kill()
            outcome.kills[role] += 1
        _sleep_until(next_kill + RESTARTED_AFTER)
        for _, victim in victims:
            victim.start()
        outcome.note(rig.violations_under_load())
    _sleep_until(deadline)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _come_to_rest(rig: Rig, outcome: Outcome) -> None:
    try:
        rig.settle()
        outcome.note([])
    except AssertionError as error:
        outcome.note(str(error).splitlines())


def _census(rig: Rig) -> dict[str, int]:
    """The number of accepted and not deleted deployments by their state."""
    states = {row["id"]: State(row["state"]) for row in rig.read().deployments}
    remaining = [id_ for name, id_ in rig.ledger.accepted.items() if name not in rig.ledger.deleted]
    counts = Counter(_outcome_of(states.get(id_)) for id_ in remaining)
    outcomes = ("ended", "queued", "running", "lost")
    return {
        "accepted": len(rig.ledger.accepted),
        "deleted": len(rig.ledger.accepted) - len(remaining),
        **{outcome: counts[outcome] for outcome in outcomes},
    }


def _outcome_of(state: State | None) -> str:
    if state is None:
        return "lost"
    if state in ENDED:
        return "ended"
    return "queued" if state in (State.QUEUED, State.BLOCKED) else "running"


def _doubled(rig: Rig, generator: LoadGenerator, outcome: Outcome) -> int:
    """The number of requests that made two deployments, and of instances started twice or in parallel."""
    names = Counter(row["name"] for row in rig.read().deployments)
    duplicates = [f"{name} exists {count} times" for name, count in names.items() if count > 1]
    duplicates += [f"{name} was started twice" for name in generator.started_twice()]
    duplicates += [item for item in outcome.violations if item.startswith("I4")]
    outcome.note(duplicates)
    return len(duplicates)


def _longest_pause(rig: Rig, started: datetime, ended: datetime) -> float:
    """The longest time between two placements under load, in seconds."""
    placed: list[datetime] = [
        event["at"]
        for event in rig.read().events
        if event["type"] == MOVED and event["to_state"] == State.STARTING and started <= event["at"] <= ended
    ]
    return max((later - earlier).total_seconds() for earlier, later in pairwise([started, *placed, ended]))
