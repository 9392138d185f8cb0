"""An organization with a user in every role, for tests of the API without the loops.

`Team.schedule` and `Team.report` run one step of the real scheduler and reconciler, so that a test controls
when a deployment starts and ends.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from limits import RateLimitItemPerMinute
from sqlalchemy import func, select

from hypervisor.control.maintenance.deletions import finish_deletions
from hypervisor.control.reconciler.apply_observations import Ended, Running, apply_observations
from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.identity import policy
from hypervisor.infra.randomness import system_random
from hypervisor.infra.security import passwords
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.scheduling.plan import plan
from hypervisor.store.leases import Fence, acquire
from hypervisor.store.tables import Attempt, Deployment
from tests.support.api import Api, Person, ok, running_api

_names = itertools.count(1)
LEASE = "scheduler"


@dataclass
class Team:
    """`outsider` is in another organization and must not see any data of this one."""

    api: Api
    id: int
    admin: Person
    developer: Person
    viewer: Person
    outsider: Person

    async def cluster(self, **fields: Any) -> dict[str, Any]:
        """Create a simulated cluster, by default of one node with 4 cores, 8 GB and 2 GPUs."""
        size = {"total_cpu_cores": 4, "total_ram_gb": 8, "total_gpu_count": 2}
        body = {"name": f"cluster-{next(_names)}", "runtime": "simulated", "organization_id": self.id}
        body |= fields if "nodes" in fields else {**size, **fields}
        answer: dict[str, Any] = ok(await self.admin.post("/api/v1/clusters", body), 201)
        return answer

    async def submit(self, name: str, **fields: Any) -> dict[str, Any]:
        """Submit a deployment as the developer; AssertionError with the response if it is refused."""
        body = {"name": name, **fields}
        answer: dict[str, Any] = ok(await self.developer.post("/api/v1/deployments", body), 201)
        return answer

    async def get(self, deployment: dict[str, Any] | int) -> dict[str, Any]:
        id_ = deployment if isinstance(deployment, int) else deployment["id"]
        answer: dict[str, Any] = ok(await self.viewer.get(f"/api/v1/deployments/{id_}"))
        return answer

    async def command(self, deployment: dict[str, Any], name: str) -> dict[str, Any]:
        answer: dict[str, Any] = ok(
            await self.developer.post(f"/api/v1/deployments/{deployment['id']}/{name}")
        )
        return answer

    async def events(self, deployment: dict[str, Any]) -> list[dict[str, Any]]:
        page = ok(await self.viewer.get(f"/api/v1/deployments/{deployment['id']}/events?limit=100"))
        return list(page["items"])

    async def count_deployments(self) -> int:
        async with self.api.services.database.read() as session:
            return await session.scalar(select(func.count()).select_from(Deployment)) or 0

    async def schedule(self, cluster: dict[str, Any]) -> None:
        """Run one pass of the scheduler: placements and evictions."""
        database, now = self.api.services.database, self.api.clock.now()
        async with database.write() as session:
            epoch = await acquire(session, LEASE, "test", now, timedelta(seconds=15))
        assert epoch is not None
        async with database.read() as session:
            view = await load_cluster(session, cluster["id"], now)
        assert view is not None
        result = plan(view.snapshot, view.policy)
        async with database.write() as session:
            await commit_plan(
                session,
                view,
                result,
                fence=Fence(LEASE, epoch),
                install=self.api.services.install_id,
                now=now,
            )

    async def report(
        self, deployment: dict[str, Any], *, exit_code: int | None = None, replica: int = 0
    ) -> None:
        """Apply an observation of the live attempt of a replica: running, or ended with `exit_code`."""
        database, now = self.api.services.database, self.api.clock.now()
        async with database.read() as session:
            attempt = await session.scalar(
                select(Attempt).where(
                    Attempt.deployment_id == deployment["id"],
                    Attempt.replica == replica,
                    Attempt.finished_at.is_(None),
                )
            )
        assert attempt is not None, "nothing is live"
        observed: Running | Ended
        if exit_code is None:
            observed = Running(
                attempt.id, deployment["id"], Observation(ObservedState.RUNNING, started_at=now)
            )
        else:
            observation = Observation(ObservedState.EXITED, exit_code=exit_code, finished_at=now)
            observed = Ended(attempt.id, deployment["id"], observation)
        async with database.write() as session:
            await apply_observations(session, [observed], now, system_random())

    async def running(self, cluster: dict[str, Any], name: str, **fields: Any) -> dict[str, Any]:
        """A deployment that was placed and observed running."""
        deployment = await self.submit(name, cluster_id=cluster["id"], **fields)
        await self.schedule(cluster)
        await self.report(deployment)
        current = await self.get(deployment)
        assert current["state"] == "RUNNING", current["reason"]
        return current

    async def ended(
        self, cluster: dict[str, Any], name: str, exit_code: int, **fields: Any
    ) -> dict[str, Any]:
        """A job that ran and ended with this code."""
        deployment = await self.running(cluster, name, kind="job", **fields)
        await self.report(deployment, exit_code=exit_code)
        return await self.get(deployment)

    async def clean_up(self) -> None:
        """Finish the pending deletions, as the maintenance loop does."""
        await finish_deletions(self.api.services.database, self.api.clock.now())


async def new_team(api: Api) -> Team:
    admin, outsider = await api.person(), await api.person()
    id_ = await admin.organization()
    await outsider.organization()
    developer = await api.member(admin, id_, "developer")
    viewer = await api.member(admin, id_, "viewer")
    return Team(api, id_, admin, developer, viewer, outsider)


@asynccontextmanager
async def team_at_rest(
    database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Team]:
    """A team on an API without control loops. Passwords are hashed cheaply and logins are not limited."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(policy, "LOGINS_PER_ADDRESS", RateLimitItemPerMinute(1_000_000))
    async with running_api(database_url, folder, role="api") as api:
        yield await new_team(api)
