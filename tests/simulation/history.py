"""One history: people, faults and servers for a minute or two, then quiet, and the invariants all along."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from random import Random

import structlog

from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.runtimes.protocol import ObservedState
from hypervisor.scheduling.plan import plan
from tests.simulation.faults import Faults
from tests.simulation.installation import Installation, Server, warm_up
from tests.simulation.people import People
from tests.support import virtual_time
from tests.support.inline_sqlite import inline_sqlite
from tests.support.invariants import PREEMPTION, Watch, violations

LOOK_EVERY = 0.5
BUSY_FOR = 60.0
CALM_FOR = 45.0
"""Seconds in which nothing moves and the engine expects no end: any look of the loops comes twice in it."""
LOOK_FOR_CALM_EVERY = 5.0
LONGEST_QUIET = 1500.0


@dataclass(slots=True)
class History:
    """What came of one seed."""

    seed: int
    faults: Faults
    lines: list[str] = field(default_factory=list)
    """What happened, in order; the same for the same seed."""
    wrong: list[str] = field(default_factory=list)
    requests: int = 0
    servers: int = 0
    attempts: int = 0
    preemptions: int = 0
    states: list[str] = field(default_factory=list)
    """Of the deployments that are there in the end."""


def silence() -> None:
    """Keep servers from logging every death of theirs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def play(seed: int) -> History:
    """Play the history of a seed from beginning to end. What the harness stumbles over is wrong too."""
    _prepare()
    random = Random(seed)
    history = History(seed, Faults.draw(random))
    try:
        with inline_sqlite(), _garbage_left_alone():
            virtual_time.run(_play(history, random))
    except Exception:
        history.wrong.append(traceback.format_exc())
    return history


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Looking for it again and again costs an eighth of the time; once, at the end, is enough."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(1)


@cache
def _prepare() -> None:
    with inline_sqlite():
        virtual_time.run(warm_up())


async def _play(history: History, random: Random) -> None:
    installation = Installation(random, history.faults, Random(history.seed))
    stage = _Stage(history, installation, random)
    try:
        await stage.play()
    finally:
        await installation.close()


class _Stage:
    def __init__(self, history: History, installation: Installation, random: Random) -> None:
        self._history = history
        self._installation = installation
        self._random = random
        self._people = People(random, self._note)
        self._watch = Watch()
        self._seen = -1
        self._judged = 0
        self._crashes_left = history.faults.crashes
        self._server = self._boot()
        self._there = asyncio.Event()
        self._there.set()

    async def play(self) -> None:
        began = asyncio.get_running_loop().time()
        undertaker = asyncio.create_task(self._replace_the_dead())
        observer = asyncio.create_task(self._look_all_along())
        try:
            accidents = asyncio.create_task(self._strike())
            await self._keep_asking()
            await accidents
            await self._come_to_rest()
        finally:
            for task in (undertaker, observer):
                task.cancel()
            await asyncio.gather(undertaker, observer, return_exceptions=True)
            await self._server.bury()
        self._note(f"rest after {asyncio.get_running_loop().time() - began:.0f} s")

    def _boot(self) -> Server:
        fuse = self._random.randint(1, 400) if self._crashes_left > 0 else None
        self._crashes_left -= 1
        self._history.servers += 1
        return Server(self._installation, fuse)

    async def _replace_the_dead(self) -> None:
        while True:
            await self._server.dead.wait()
            self._there.clear()
            self._note("the server dies")
            await self._server.bury()
            await self._look()
            await asyncio.sleep(self._random.choice((0.1, 2, 20)))
            self._server = self._boot()
            self._note("a server starts")
            self._there.set()

    async def _keep_asking(self) -> None:
        for _ in range(self._random.randint(2, 7)):
            await asyncio.sleep(self._random.choice((0.0, 0.01, 1, 5, 12)))
            await self._there.wait()
            await self._people.ask_something(self._server)
            self._history.requests += 1

    async def _strike(self) -> None:
        """Faults that come once in a while, at moments of their own."""
        faults, strikes = self._history.faults, []
        strikes += [self._cut_the_engine] * faults.cuts
        strikes += [self._set_the_clock] * faults.clock_jumps
        strikes += [self._cause_an_accident] * faults.accidents
        for strike in strikes:
            await asyncio.sleep(self._random.random() * BUSY_FOR / 2)
            await strike()

    async def _cut_the_engine(self) -> None:
        self._note("the engine is cut off")
        server = self._server
        server.engine.cut = True
        await asyncio.sleep(self._random.choice((1, 30)))
        server.engine.cut = False
        self._note("the engine is back")

    async def _set_the_clock(self) -> None:
        hours = self._random.choice((-1, 1))
        self._note(f"the clock jumps by {hours} h")
        self._installation.clock.error += timedelta(hours=hours)

    async def _cause_an_accident(self) -> None:
        """Somebody kills or removes an instance without asking us."""
        engine = self._installation.engine
        seen = await engine.list_instances()
        running = sorted(name for name, one in seen.items() if one.state is ObservedState.RUNNING)
        if not running:
            return
        name = self._random.choice(running)
        self._note(f"{name} is killed behind our back")
        await engine.stop(name, 0)
        if self._random.random() < 0.5:
            await engine.remove(name)

    async def _come_to_rest(self) -> None:
        """No more requests and faults: everything must find its place."""
        self._history.faults.lost_hints = self._history.faults.slow_statements = 0.0
        self._history.faults.refused_calls = self._history.faults.lost_answers = 0.0
        self._crashes_left = 0
        self._server.spare()
        await self._there.wait()
        await self._people.reopen(self._server)
        if not await self._nothing_moves():
            self._history.wrong.append(f"I11: no rest within {LONGEST_QUIET:.0f} s")
        await self._look(quiet=True)
        await self._plan_again()

    async def _nothing_moves(self) -> bool:
        loop = asyncio.get_running_loop()
        deadline, calm_since, before = loop.time() + LONGEST_QUIET, loop.time(), ""
        while loop.time() < deadline:
            await asyncio.sleep(LOOK_FOR_CALM_EVERY)
            now = self._installation.fingerprint(self._installation.clock.now())
            if now != before:
                before, calm_since = now, loop.time()
            elif loop.time() - calm_since >= CALM_FOR:
                return True
        return False

    async def _plan_again(self) -> None:
        """At rest, a plan has nothing left to do."""
        server = self._server

        async def look() -> None:
            async with server.database.read() as session:
                view = await load_cluster(session, 1, server.clock.now())
            if view is None:
                return
            made = plan(view.snapshot, view.policy)
            if made.placements or made.evictions:
                self._report([f"I11: at rest the plan still has {made.placements} {made.evictions}"])

        await server.call(look())

    async def _look_all_along(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if (now := self._installation.changes()) != self._seen:
                self._seen = now
                await self._look()

    async def _look(self, *, quiet: bool = False) -> None:
        rows = self._installation.rows()
        found = violations(rows, await self._installation.alive(), quiet=quiet, judged=self._judged)
        self._judged = rows.events[-1]["id"] if rows.events else 0
        self._report([*found, *self._watch.violations(rows), *self._people.ledger.violations(rows)])
        if quiet:
            self._history.attempts = len(rows.attempts)
            self._history.preemptions = sum(event["type"] == PREEMPTION for event in rows.events)
            self._history.states = sorted(row["state"] for row in rows.deployments)

    def _report(self, found: list[str]) -> None:
        for one in found:
            if one not in self._history.wrong:
                self._history.wrong.append(one)
                self._note(f"WRONG {one}")

    def _note(self, what: str) -> None:
        self._history.lines.append(f"{asyncio.get_running_loop().time():8.2f}  {what}")
