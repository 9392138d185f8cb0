"""A small installation for tests of the control loops: rows written directly, real loops, real runtimes.

No HTTP: the API is tested elsewhere.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from hypervisor.control.loops import Loops
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import CordonChecks
from hypervisor.deployments.state.dependencies import load_parents, summarize_dependencies
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.deployments.state.transitions import record_creations
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.randomness import random_code, system_random
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.tokens import AttemptTokens
from hypervisor.infra.wakeup import Wakeup
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.protocol import Runtime
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.store.database import Database
from hypervisor.store.installation import ID_ALPHABET, ID_LENGTH, ensure_installation
from hypervisor.store.tables import (
    Allocation,
    Attempt,
    Cluster,
    Dependency,
    Deployment,
    Event,
    GpuClaim,
    Node,
    NodeGpu,
    Organization,
)
from tests.support.wait import PROMPT, eventually

PYTHON = sys.executable


@dataclass
class World:
    """One installation: its database, and helpers for tests."""

    database: Database
    folder: Path
    install: str
    interval: float = 0.5
    clock: SystemClock = field(default_factory=SystemClock)
    encryptor: Encryptor = field(default_factory=lambda: Encryptor(b"k" * 32))
    reporting: CheckpointEnv = field(
        default_factory=lambda: CheckpointEnv(AttemptTokens(b"k" * 32), lambda _engine: "http://127.0.0.1:9")
    )
    wakeup: Wakeup = field(default_factory=Wakeup)
    cordon_checks: CordonChecks = field(default_factory=dict)
    runtime_overrides: dict[str, Runtime] = field(default_factory=dict)
    _names: Any = field(default_factory=lambda: itertools.count(1))

    def registry(self) -> RuntimeRegistry:
        return RuntimeRegistry(
            {
                "process": lambda _: (
                    self.runtime_overrides.get("process")
                    or ProcessRuntime(self.folder / "process", self.install, self.clock)
                ),
                "simulated": lambda _: (
                    self.runtime_overrides.get("simulated")
                    or SimulatedRuntime(self.folder, self.install, self.clock)
                ),
                "docker": lambda _: self.runtime_overrides["docker"],
            }
        )

    @asynccontextmanager
    async def loops(self) -> AsyncIterator[RuntimeRegistry]:
        """Run the control loops of one server during the block."""
        registry = self.registry()
        self.wakeup = Wakeup()
        loops = Loops(
            self.database,
            self.clock,
            self.wakeup,
            registry,
            self.encryptor,
            self.reporting,
            install=self.install,
            random=system_random(),
            interval=self.interval,
            cordon_checks=self.cordon_checks,
        )
        loops.start()
        try:
            yield registry
        finally:
            await loops.stop()
            await registry.close()

    async def cluster(
        self,
        *,
        runtime: str = "simulated",
        nodes: int = 1,
        cpu: int = 4000,
        ram: int = 4096,
        gpus: int = 0,
        **settings: Any,
    ) -> int:
        """Create a cluster of equal nodes in a new organization; its id."""
        now = self.clock.now()
        async with self.database.write() as session:
            number = next(self._names)
            organization = Organization(name=f"org-{number}", name_normalized=f"org-{number}", created_at=now)
            session.add(organization)
            await session.flush()
            cluster = Cluster(
                organization_id=organization.id,
                name=f"cluster-{number}",
                runtime=runtime,
                resolved_runtime=runtime,
                created_at=now,
                **settings,
            )
            session.add(cluster)
            await session.flush()
            for index in range(nodes):
                node = Node(
                    cluster_id=cluster.id,
                    name=f"node-{index + 1}",
                    cpu_milli=cpu,
                    ram_mib=ram,
                    gpu_count=gpus,
                    labels={},
                    created_at=now,
                )
                session.add(node)
                await session.flush()
                session.add_all(NodeGpu(node_id=node.id, gpu_index=gpu, used_milli=0) for gpu in range(gpus))
            return cluster.id

    async def submit(self, cluster_id: int, **wanted: Any) -> int:
        """Write a deployment as the API would; its id. `after` maps parent ids to conditions."""
        return (await self.submit_many(cluster_id, [wanted]))[0]

    async def submit_many(self, cluster_id: int, wanted: Sequence[Mapping[str, Any]]) -> list[int]:
        now = self.clock.now()
        async with self.database.write() as session:
            cluster = await session.get_one(Cluster, cluster_id)
            ids = []
            for one in wanted:
                fields = dict(one)
                after: Mapping[int, str] = fields.pop("after", {})
                deployment = _deployment(cluster, fields, now)
                session.add(deployment)
                await session.flush()
                session.add_all(
                    Dependency(deployment_id=deployment.id, depends_on_id=parent, condition=condition)
                    for parent, condition in after.items()
                )
                await session.flush()
                if after:
                    parents = await load_parents(session, [deployment.id])
                    deployment.state = summarize_dependencies(parents[deployment.id]).state.value
                await record_creations(session, [deployment], ["test"])
                ids.append(deployment.id)
        self.wakeup.notify("scheduler")
        return ids

    async def stop(self, deployment_id: int, reason: StopReason = StopReason.STOPPED) -> None:
        async with self.database.write() as session:
            deployment = await session.get_one(Deployment, deployment_id, with_for_update=True)
            attempts = (await live_attempts(session, [deployment_id])).get(deployment_id)
            assert attempts, "nothing to stop"
            request_stop(
                session,
                deployment,
                attempts,
                reason,
                now=self.clock.now(),
                actor="test",
                sentence="stopped by the test",
            )
        self.wakeup.notify("reconciler")

    async def get(self, deployment_id: int) -> Deployment:
        async with self.database.read() as session:
            return await session.get_one(Deployment, deployment_id)

    async def state(self, deployment_id: int) -> str:
        return (await self.get(deployment_id)).state

    async def states(self, ids: Sequence[int]) -> dict[str, int]:
        """The number of these deployments in each state."""
        async with self.database.read() as session:
            rows = await session.execute(
                select(Deployment.state, func.count())
                .where(Deployment.id.in_(ids))
                .group_by(Deployment.state)
            )
            return dict(rows.all())

    async def reaches(self, deployment_id: int, state: State | str, *, within: float = PROMPT) -> Deployment:
        """Wait until a deployment is in a state; fails with its state and reason."""

        async def is_reached() -> Deployment:
            deployment = await self.get(deployment_id)
            assert deployment.state == state, f"{deployment.name} is {deployment.state}: {deployment.reason}"
            return deployment

        return await eventually(is_reached, within=within, what=f"{deployment_id} reaches {state}")

    async def events(self, deployment_id: int) -> list[Event]:
        async with self.database.read() as session:
            rows = await session.scalars(
                select(Event).where(Event.deployment_id == deployment_id).order_by(Event.id)
            )
            return list(rows)

    async def attempts(self, deployment_id: int) -> list[Attempt]:
        async with self.database.read() as session:
            rows = await session.scalars(
                select(Attempt)
                .where(Attempt.deployment_id == deployment_id)
                .order_by(Attempt.number, Attempt.replica)
            )
            return list(rows)

    async def check_invariants(self) -> None:
        """Recompute from the rows: capacity (I1), GPUs (I2), one live attempt (I4), counters (I8)."""
        async with self.database.read() as session:
            nodes = {node.id: node for node in await session.scalars(select(Node))}
            held = list(await session.scalars(select(Allocation)))
            claims = list(await session.scalars(select(GpuClaim)))
            gpus = list(await session.scalars(select(NodeGpu)))
            live = list(await session.scalars(select(Attempt).where(Attempt.finished_at.is_(None))))
            deployments = list(await session.scalars(select(Deployment)))
        for node in nodes.values():
            on_node = [a for a in held if a.node_id == node.id]
            assert sum(a.cpu_milli for a in on_node) == node.used_cpu_milli <= node.cpu_milli
            assert sum(a.ram_mib for a in on_node) == node.used_ram_mib <= node.ram_mib
        for gpu in gpus:
            on_gpu = [c for c in claims if (c.node_id, c.gpu_index) == (gpu.node_id, gpu.gpu_index)]
            assert sum(c.milli for c in on_gpu) == gpu.used_milli <= 1000
            assert len(on_gpu) == 1 or all(c.milli < 1000 for c in on_gpu)
        assert {a.attempt_id for a in held} == {a.id for a in live}
        assert len({(a.deployment_id, a.replica) for a in live}) == len(live)
        running = {d.id for d in deployments if d.state in ("STARTING", "RUNNING", "STOPPING")}
        assert running == {a.deployment_id for a in live}


@asynccontextmanager
async def new_world(database_url: str, folder: Path, **options: Any) -> AsyncIterator[World]:
    """A world on a migrated database."""
    database = Database(database_url)
    try:
        async with database.write() as session:
            install = await ensure_installation(
                session, random_code(ID_ALPHABET, ID_LENGTH), SystemClock().now()
            )
        yield World(database, folder, install, **options)
    finally:
        await database.close()


def sleeping(seconds: float) -> dict[str, Any]:
    """A process workload that sleeps and exits with 0."""
    return {"command": ["sleep", str(seconds)]}


def simulated(seconds: float | None = None, **labels: str) -> dict[str, Any]:
    """A simulated workload; without a duration it runs until it is stopped."""
    script = {f"simulate/{key.replace('_', '-')}": value for key, value in labels.items()}
    if seconds is not None:
        script["simulate/duration"] = str(seconds)
    return {"labels": script}


def _deployment(cluster: Cluster, wanted: dict[str, Any], now: Any) -> Deployment:
    fields: dict[str, Any] = {
        "name": "work",
        "kind": "job",
        "cpu_milli": 1000,
        "ram_mib": 64,
        "gpu_milli": 0,
        "priority": 500,
        "restart_policy": "never",
        "grace_period_seconds": 5,
        **wanted,
    }
    return Deployment(
        organization_id=fields.pop("organization_id", cluster.organization_id),
        cluster_id=cluster.id,
        state=State.QUEUED.value,
        created_at=now,
        queued_at=now,
        **fields,
    )
