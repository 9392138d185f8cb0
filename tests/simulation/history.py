"""One history: requests, faults and servers for a minute or two, then quiet; invariants hold throughout."""

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
from tests.simulation.faults import Faults, RestartingEngine
from tests.simulation.installation import Installation, Server, warm_up
from tests.simulation.people import People
from tests.support import virtual_time
from tests.support.inline_sqlite import inline_sqlite
from tests.support.invariants import PREEMPTION, Watch, violations

CHECK_EVERY = 0.5
BUSY_FOR = 60.0
STEADY_FOR = 45.0
"""Seconds without a change and without an expected end of an instance: two full passes of every loop."""
STEADY_CHECK_EVERY = 5.0
LONGEST_QUIET = 1500.0


@dataclass(slots=True)
class History:
    """The result of one seed."""

    seed: int
    faults: Faults
    lines: list[str] = field(default_factory=list)
    """The events in order; the same for the same seed."""
    violations: list[str] = field(default_factory=list)
    requests: int = 0
    servers: int = 0
    attempts: int = 0
    preemptions: int = 0
    states: list[str] = field(default_factory=list)
    """The final states of the deployments."""


def silence() -> None:
    """Suppress the logs of the servers."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def play(seed: int) -> History:
    """Play the history of a seed. An exception of the harness is a violation too."""
    _prepare()
    random = Random(seed)
    history = History(seed, Faults.draw(random))
    try:
        with inline_sqlite(), _garbage_left_alone():
            virtual_time.run(_play(history, random))
    except Exception:
        history.violations.append(traceback.format_exc())
    return history


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Disable garbage collection, which costs an eighth of the time; collect once at the end."""
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
    runner = _HistoryRunner(history, installation, random)
    try:
        await runner.play()
    finally:
        await installation.close()


class _HistoryRunner:
    def __init__(self, history: History, installation: Installation, random: Random) -> None:
        self._history = history
        self._installation = installation
        self._random = random
        self._clients = People(random, self._note)
        self._monotonic = Watch()
        self._checked_version = -1
        self._checked_event = 0
        self._crashes_left = history.faults.crashes
        self._server = self._start_server()
        self._server_running = asyncio.Event()
        self._server_running.set()

    async def play(self) -> None:
        started_at = asyncio.get_running_loop().time()
        restarter = asyncio.create_task(self._restart_servers())
        checker = asyncio.create_task(self._check_continuously())
        try:
            accidents = asyncio.create_task(self._inject_faults())
            await self._send_requests()
            await accidents
            await self._settle()
        finally:
            for task in (restarter, checker):
                task.cancel()
            await asyncio.gather(restarter, checker, return_exceptions=True)
            await self._server.clean_up()
        self._note(f"rest after {asyncio.get_running_loop().time() - started_at:.0f} s")

    def _start_server(self) -> Server:
        crash_step = self._random.randint(1, 400) if self._crashes_left > 0 else None
        self._crashes_left -= 1
        self._history.servers += 1
        return Server(self._installation, crash_step)

    async def _restart_servers(self) -> None:
        while True:
            await self._server.dead.wait()
            self._server_running.clear()
            self._note("the server dies")
            await self._server.clean_up()
            await self._check()
            await asyncio.sleep(self._random.choice((0.1, 2, 20)))
            self._server = self._start_server()
            self._note("a server starts")
            self._server_running.set()

    async def _send_requests(self) -> None:
        for _ in range(self._random.randint(2, 7)):
            await asyncio.sleep(self._random.choice((0.0, 0.01, 1, 5, 12)))
            await self._server_running.wait()
            await self._clients.send_random_request(self._server)
            self._history.requests += 1

    async def _inject_faults(self) -> None:
        """Inject the rare faults at random times."""
        faults, strikes = self._history.faults, []
        strikes += [self._disconnect_engine] * faults.disconnects
        strikes += [self._jump_clock] * faults.clock_jumps
        strikes += [self._kill_instance] * faults.accidents
        strikes += [self._restart_instance] * faults.restarts
        for strike in strikes:
            await asyncio.sleep(self._random.random() * BUSY_FOR / 2)
            await strike()

    async def _disconnect_engine(self) -> None:
        self._note("the engine is cut off")
        server = self._server
        server.engine.disconnected = True
        await asyncio.sleep(self._random.choice((1, 30)))
        server.engine.disconnected = False
        self._note("the engine is back")

    async def _jump_clock(self) -> None:
        hours = self._random.choice((-1, 1))
        self._note(f"the clock jumps by {hours} h")
        self._installation.clock.error += timedelta(hours=hours)

    async def _kill_instance(self) -> None:
        """Kill or remove an instance outside of the product."""
        engine = self._installation.engine
        seen = await engine.list_instances()
        running = sorted(name for name, item in seen.items() if item.state is ObservedState.RUNNING)
        if not running:
            return
        name = self._random.choice(running)
        self._note(f"{name} is killed from outside")
        await engine.stop(name, 0)
        if self._random.random() < 0.5:
            await engine.remove(name)

    async def _restart_instance(self) -> None:
        """Start an instance again outside of the product; best right after its end, before its removal."""
        installation = self._installation
        assert isinstance(installation.engine, RestartingEngine)
        for _ in range(40):
            seen = await installation.engine.list_instances()
            ended = sorted(name for name, item in seen.items() if item.state is ObservedState.EXITED)
            if ended:
                break
            await asyncio.sleep(0.25)
        if names := ended or sorted(seen):
            name = self._random.choice(names)
            self._note(f"{name} is started again from outside")
            installation.engine.restart(name, installation.engine_clock.now().timestamp())

    async def _settle(self) -> None:
        """End requests and faults, and wait until nothing changes any more."""
        self._history.faults.lost_hints = self._history.faults.slow_statements = 0.0
        self._history.faults.failed_calls = self._history.faults.lost_responses = 0.0
        self._crashes_left = 0
        self._server.disable_crash()
        await self._server_running.wait()
        await self._clients.reopen(self._server)
        if not await self._is_steady():
            self._history.violations.append(f"I11: no rest within {LONGEST_QUIET:.0f} s")
        await self._check(quiet=True)
        await self._check_final_plan()

    async def _is_steady(self) -> bool:
        loop = asyncio.get_running_loop()
        deadline, steady_since, before = loop.time() + LONGEST_QUIET, loop.time(), ""
        while loop.time() < deadline:
            await asyncio.sleep(STEADY_CHECK_EVERY)
            now = self._installation.fingerprint(self._installation.clock.now())
            if now != before:
                before, steady_since = now, loop.time()
            elif loop.time() - steady_since >= STEADY_FOR:
                return True
        return False

    async def _check_final_plan(self) -> None:
        """Check that a plan is empty at rest."""
        server = self._server

        async def check() -> None:
            async with server.database.read() as session:
                view = await load_cluster(session, 1, server.clock.now())
            if view is None:
                return
            result = plan(view.snapshot, view.policy)
            if result.placements or result.evictions:
                self._report([f"I11: at rest the plan still has {result.placements} {result.evictions}"])

        await server.call(check())

    async def _check_continuously(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            if (now := self._installation.changes()) != self._checked_version:
                self._checked_version = now
                await self._check()

    async def _check(self, *, quiet: bool = False) -> None:
        rows = self._installation.rows()
        found = violations(
            rows, await self._installation.alive(), quiet=quiet, checked_event=self._checked_event
        )
        self._checked_event = rows.events[-1]["id"] if rows.events else 0
        self._report([*found, *self._monotonic.violations(rows), *self._clients.ledger.violations(rows)])
        if quiet:
            self._history.attempts = len(rows.attempts)
            self._history.preemptions = sum(event["type"] == PREEMPTION for event in rows.events)
            self._history.states = sorted(row["state"] for row in rows.deployments)

    def _report(self, found: list[str]) -> None:
        for item in found:
            if item not in self._history.violations:
                self._history.violations.append(item)
                self._note(f"WRONG {item}")

    def _note(self, what: str) -> None:
        self._history.lines.append(f"{asyncio.get_running_loop().time():8.2f}  {what}")
