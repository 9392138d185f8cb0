"""The installation of a history: a database file, an engine, a clock, and one server after another."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from hypervisor.control.leases.manager import LeaseTimes
from hypervisor.control.loops import Loops
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.tokens import AttemptTokens
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.lifecycle.conclude import MAX_BACKOFF_SECONDS
from hypervisor.runtimes.protocol import ObservedState
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.store.base import Base
from hypervisor.store.database import Database
from hypervisor.store.tables import Cluster, Membership, Node, NodeGpu, Organization, User
from tests.simulation.faults import Faults, LossyWakeup, RestartingEngine, UnreliableEngine
from tests.support.inline_sqlite import Gone, Peer, current_peer
from tests.support.invariants import Rows, read_sqlite

T = TypeVar("T")

INSTALL = "simulate"
START = datetime(2030, 1, 1, tzinfo=UTC)
INTERVAL = 20.0
"""Seconds between full passes."""
LEASE_TIMES = LeaseTimes.for_ttl(90.0)
"""Long, because renewals are expensive here and the only server never waits for a lease."""
NODES = 2
NODE_CPU, NODE_RAM, NODE_GPUS = 4000, 8192, 2


class LoopClock:
    """Virtual time with an adjustable error of the wall clock. Implements `hypervisor.kernel.clock.Clock`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.error = timedelta(0)

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time()) + self.error

    def monotonic(self) -> float:
        return self._loop.time()


class Server:
    """One server process. With a `crash_step` it dies at that step."""

    def __init__(self, installation: Installation, crash_step: int | None) -> None:
        self.installation = installation
        self.clock = installation.clock
        self.encryptor = Encryptor(b"k" * 32)
        self.dead = asyncio.Event()
        self._steps_left = crash_step
        self._tasks: set[asyncio.Task[Any]] = set()
        self.peer = Peer(installation.writing, self._pace)
        self.context = contextvars.copy_context()
        self.context.run(current_peer.set, self.peer)
        self.database = _database()
        self.wakeup = LossyWakeup(installation.random, installation.faults)
        self.engine = UnreliableEngine(
            installation.engine, installation.random, installation.faults, self.step
        )
        self._loops = Loops(
            self.database,
            self.clock,
            self.wakeup,
            RuntimeRegistry({"simulated": lambda _: self.engine}),
            self.encryptor,
            CheckpointEnv(AttemptTokens(b"k" * 32), lambda _engine: "http://127.0.0.1:9"),
            install=INSTALL,
            random=installation.server_random,
            interval=INTERVAL,
            local_engines=(EngineRef("simulated"),),
            lease_times=LEASE_TIMES,
        )
        self.context.run(self._loops.start)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server, such as a request.

        Raises CancelledError if the server is cleaned up meanwhile.
        """
        task = self.context.run(asyncio.create_task, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task])
        return task.result()

    def step(self) -> None:
        """Count a step. Raises Gone at the step where the server dies, and at all later ones."""
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left <= 0:
                self.kill()
        if self.peer.dead:
            raise Gone("the server is dead")

    def disable_crash(self) -> None:
        """Let this server live on."""
        self._steps_left = None

    def kill(self) -> None:
        """End the server as kill -9 does: its calls no longer reach the database or the engine."""
        if not self.peer.dead:
            self.peer.kill()
            self.dead.set()

    async def clean_up(self) -> None:
        """Remove the tasks and connections of a dead server from this process."""
        await self._loops.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _forget_connections(self.database)

    def _pace(self) -> float:
        self.step()
        random, slow = self.installation.random, self.installation.faults.slow_statements
        if not slow or random.random() >= slow:
            return 0.0
        return random.random() * 0.2


class Installation:
    """The parts that outlive a server. Close it at the end of the history."""

    def __init__(self, random: Random, faults: Faults, server_random: Random) -> None:
        """`random` is for what happens to the servers, `server_random` for what they draw themselves."""
        self.random = random
        self.server_random = server_random
        self.faults = faults
        self.clock = LoopClock()
        self.engine_clock = LoopClock()
        engine = RestartingEngine if faults.restarts else SimulatedRuntime
        self.engine: SimulatedRuntime = engine(None, INSTALL, self.engine_clock)
        self.writing = asyncio.Lock()
        file = _database().address.file
        assert file is not None
        self.path = file
        _erase(self.path)
        self.path.write_bytes(_template())
        self._reader = sqlite3.connect(self.path)

    async def alive(self) -> list[str]:
        """The instances that run now, according to the engine."""
        observations = await self.engine.list_instances()
        return [
            name
            for name, observation in observations.items()
            if observation.state is not ObservedState.EXITED
        ]

    def rows(self) -> Rows:
        return read_sqlite(self._reader)

    def changes(self) -> int:
        """A number that changes with each commit of any connection."""
        return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    def fingerprint(self, now: datetime) -> str:
        """A text that changes with every transition of a deployment; and with the time, while a back-off
        runs or an instance has an expected end.
        """
        (last_event,) = self._reader.execute("SELECT max(id) FROM events").fetchone()
        # A time beyond the longest back-off is from before the clock was set back: it is ignored.
        (in_backoff,) = self._reader.execute(
            "SELECT count(*) FROM deployments WHERE state = 'QUEUED' AND not_before > ? AND not_before <= ?",
            [f"{at:%F %T.%f}" for at in (now, now + timedelta(seconds=MAX_BACKOFF_SECONDS))],
        ).fetchone()
        return f"{last_event} {now if in_backoff or self.engine._due else ''}"

    async def close(self) -> None:
        await self.engine.close()
        self._reader.close()
        _erase(self.path)


async def warm_up() -> None:
    """Trigger SQLAlchemy's one-time initialization, so that the first history equals a repeated one."""
    current_peer.set(Peer(asyncio.Lock(), lambda: 0.0))
    for opened in (_database().write(), _database().read()):
        async with opened as session:
            await session.execute(text("SELECT 1"))
    await _database().close()


@cache
def _database() -> Database:
    """One Database object for all servers, to share compiled statements; each server has its connections."""
    return Database(f"sqlite:///{_folder() / 'installation.db'}")


def _forget_connections(database: Database) -> None:
    for engine in (database._read_engine, database._write_engine):
        engine.sync_engine.dispose(close=False)
    database.after_commit.clear()


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed with this process."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="hv-simulation-", dir=memory if memory.is_dir() else None)


def _folder() -> Path:
    return Path(_scratch().name)


def _erase(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@cache
def _template() -> bytes:
    """A database file with one organization, one user and one cluster, each with the id 1."""
    path = _folder() / "template.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for row in _people_and_machines():
            session.add(row)
            session.flush()
    engine.dispose()
    content = path.read_bytes()
    path.unlink()
    return content


def _people_and_machines() -> list[Base]:
    created: dict[str, Any] = {"created_at": START}
    rows: list[Base] = [
        User(
            id=1,
            username="ada",
            username_normalized="ada",
            email="a@b.c",
            email_normalized="a@b.c",
            password_hash="-",
            **created,
        ),
        Organization(id=1, name="lab", name_normalized="lab", **created),
        Membership(organization_id=1, user_id=1, role="admin", joined_at=START),
        Cluster(
            id=1, organization_id=1, name="c", runtime="simulated", resolved_runtime="simulated", **created
        ),
    ]
    for number in range(1, NODES + 1):
        size = {"cpu_milli": NODE_CPU, "ram_mib": NODE_RAM, "gpu_count": NODE_GPUS, "labels": {}}
        rows.append(Node(id=number, cluster_id=1, name=f"node-{number}", **size, **created))
        rows += [NodeGpu(node_id=number, gpu_index=index) for index in range(NODE_GPUS)]
    return rows
