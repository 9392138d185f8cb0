"""What a history takes place in: a database file, an engine, a clock, and one server after another."""

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
from hypervisor.lifecycle.conclude import BACKOFF_LONGEST
from hypervisor.runtimes.protocol import ObservedState
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.store.base import Base
from hypervisor.store.database import Database
from hypervisor.store.tables import Cluster, Membership, Node, NodeGpu, Organization, User
from tests.simulation.faults import Faults, LossyWakeup, ShakyEngine
from tests.support.inline_sqlite import Gone, Peer, current_peer
from tests.support.invariants import Rows, read_sqlite

T = TypeVar("T")

INSTALL = "simulate"
START = datetime(2030, 1, 1, tzinfo=UTC)
INTERVAL = 20.0
"""Seconds between full passes."""
LEASE_TIMES = LeaseTimes.of(90.0)
"""Long ones: there is one server at a time, which never waits for a lease, and renewals cost much here."""
NODES = 2
NODE_CPU, NODE_RAM, NODE_GPUS = 4000, 8192, 2


class LoopClock:
    """Virtual time as a wall clock that can be set wrong. Implements `hypervisor.kernel.clock.Clock`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.error = timedelta(0)

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time()) + self.error

    def monotonic(self) -> float:
        return self._loop.time()


class Server:
    """One life of a server, with a fuse: it dies at that step of its own, wherever that is."""

    def __init__(self, installation: Installation, fuse: int | None) -> None:
        self.installation = installation
        self.clock = installation.clock
        self.encryptor = Encryptor(b"k" * 32)
        self.dead = asyncio.Event()
        self._fuse = fuse
        self._tasks: set[asyncio.Task[Any]] = set()
        self.peer = Peer(installation.writing, self._pace)
        self.context = contextvars.copy_context()
        self.context.run(current_peer.set, self.peer)
        self.database = _database()
        self.wakeup = LossyWakeup(installation.random, installation.faults)
        self.engine = ShakyEngine(installation.engine, installation.random, installation.faults, self.step)
        self._loops = Loops(
            self.database,
            self.clock,
            self.wakeup,
            RuntimeRegistry({"simulated": lambda _: self.engine}),
            self.encryptor,
            CheckpointEnv(AttemptTokens(b"k" * 32), "http://127.0.0.1:9"),
            install=INSTALL,
            interval=INTERVAL,
            local_engines=(EngineRef("simulated"),),
            lease_times=LEASE_TIMES,
        )
        self.context.run(self._loops.start)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the server do something beside its loops, such as answering a request.

        Raises CancelledError when it is buried meanwhile.
        """
        task = self.context.run(asyncio.create_task, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task])
        return task.result()

    def step(self) -> None:
        """Count a step. Raises Gone at the one where the server dies, and ever after."""
        if self._fuse is not None:
            self._fuse -= 1
            if self._fuse <= 0:
                self.kill()
        if self.peer.dead:
            raise Gone("the server is dead")

    def spare(self) -> None:
        """Take the fuse out: this server lives on."""
        self._fuse = None

    def kill(self) -> None:
        """What kill -9 does: nothing of it reaches database or engine any more."""
        if not self.peer.dead:
            self.peer.kill()
            self.dead.set()

    async def bury(self) -> None:
        """Take what is left of a dead server out of this process, as its end took it out of the machine."""
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
    """Everything that outlives a server. Close it at the end of its history."""

    def __init__(self, random: Random, faults: Faults) -> None:
        self.random = random
        self.faults = faults
        self.clock = LoopClock()
        self.engine_clock = LoopClock()
        self.engine = SimulatedRuntime(None, INSTALL, self.engine_clock)
        self.writing = asyncio.Lock()
        self.path = Path(str(_database().url.database))
        _erase(self.path)
        self.path.write_bytes(_template())
        self._reader = sqlite3.connect(self.path)

    async def alive(self) -> list[str]:
        """The instances that run now, by the engine's own word."""
        seen = await self.engine.list_instances()
        return [name for name, one in seen.items() if one.state is not ObservedState.EXITED]

    def rows(self) -> Rows:
        return read_sqlite(self._reader)

    def changes(self) -> int:
        """A number that is another one after each commit of anybody."""
        return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    def fingerprint(self, now: datetime) -> str:
        """Changes with every move of a deployment; and with the time, while one waits for its next try or
        an instance is going to end.
        """
        (moves,) = self._reader.execute("SELECT max(id) FROM events").fetchone()
        # What is farther off than any back-off was set before the clock was set back: it waits no more.
        (waits,) = self._reader.execute(
            "SELECT count(*) FROM deployments WHERE state = 'QUEUED' AND not_before > ? AND not_before <= ?",
            [f"{at:%F %T.%f}" for at in (now, now + timedelta(seconds=BACKOFF_LONGEST))],
        ).fetchone()
        return f"{moves} {now if waits or self.engine._due else ''}"

    async def close(self) -> None:
        await self.engine.close()
        self._reader.close()
        _erase(self.path)


async def warm_up() -> None:
    """Let SQLAlchemy do what it does once in a process, so that the first history is like all others."""
    current_peer.set(Peer(asyncio.Lock(), lambda: 0.0))
    for opened in (_database().write(), _database().read()):
        async with opened as session:
            await session.execute(text("SELECT 1"))
    await _database().close()


@cache
def _database() -> Database:
    """The one database of all servers, for its compiled statements; its connections are each server's own."""
    return Database(f"sqlite:///{_folder() / 'installation.db'}")


def _forget_connections(database: Database) -> None:
    for engine in (database._read_engine, database._write_engine):
        engine.sync_engine.dispose(close=False)
    database.after_commit.clear()


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Goes with this process."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="hv-simulation-", dir=memory if memory.is_dir() else None)


def _folder() -> Path:
    return Path(_scratch().name)


def _erase(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@cache
def _template() -> bytes:
    """A database with one organization, one person in it and one cluster, each with the id 1."""
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
    then: dict[str, Any] = {"created_at": START}
    rows: list[Base] = [
        User(
            id=1,
            username="ada",
            username_normalized="ada",
            email="a@b.c",
            email_normalized="a@b.c",
            password_hash="-",
            **then,
        ),
        Organization(id=1, name="lab", name_normalized="lab", **then),
        Membership(organization_id=1, user_id=1, role="admin", joined_at=START),
        Cluster(id=1, organization_id=1, name="c", runtime="simulated", resolved_runtime="simulated", **then),
    ]
    for number in range(1, NODES + 1):
        size = {"cpu_milli": NODE_CPU, "ram_mib": NODE_RAM, "gpu_count": NODE_GPUS, "labels": {}}
        rows.append(Node(id=number, cluster_id=1, name=f"node-{number}", **size, **then))
        rows += [NodeGpu(node_id=number, gpu_index=index) for index in range(NODE_GPUS)]
    return rows
