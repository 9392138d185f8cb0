"""An installation on the machine's engine, whose server reaches it through a proxy.

The promise of the product is checked in the engine, by the labels of its containers, not only in the rows.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import select

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.store.tables import Attempt
from tests.support import docker
from tests.support.proxy import EngineProxy
from tests.support.world import World, new_world


@dataclass
class DockerSite:
    """One installation with a cluster on the engine."""

    world: World
    proxy: EngineProxy
    log_dir: Path
    cluster: int = 0
    api: docker.Api = field(default_factory=lambda: docker.Api(docker.endpoint()))

    @asynccontextmanager
    async def server(self) -> AsyncIterator[None]:
        """One server from its start to its end."""
        runtime = DockerRuntime(
            self.world.install, self.proxy.endpoint, pull_policy="never", log_dir=self.log_dir
        )
        self.world.runtime_overrides["docker"] = runtime
        async with self.world.loops():
            yield

    async def submit(self, script: str, **wanted: Any) -> int:
        """A job of this script; its id."""
        spec = {"docker_image": docker.IMAGE, "command": ["/bin/sh", "-c", script], "cpu_milli": 100}
        return await self.world.submit(self.cluster, **{**spec, **wanted})

    async def running(self, script: str, **wanted: Any) -> tuple[int, str]:
        """A running job of this script; its id and its instance."""
        deployment = await self.submit(script, **wanted)
        await self.world.reaches(deployment, "RUNNING")
        return deployment, (await self.world.attempts(deployment))[-1].instance

    def act(self, container: str, action: str, *accept: int) -> None:
        """What an operator does to a container, such as "restart?t=0"."""
        self.api.call("POST", f"/containers/{container}/{action}", accept=(204, *accept))

    def run_in(self, instance: str, *command: str) -> None:
        """Run a command in a container, without waiting for its end."""
        created = self.api.json("POST", f"/containers/{instance}/exec", {"Cmd": command})
        self.api.json("POST", f"/exec/{created['Id']}/start", {"Detach": True})

    def containers(self, *, live: bool) -> list[Any]:
        """The engine's containers of this installation, found by their label."""
        filters = quote(json.dumps({"label": [f"hypervisor.install={self.world.install}"]}))
        return list(self.api.json("GET", f"/containers/json?all={int(not live)}&filters={filters}"))

    async def violations(self) -> list[str]:
        """What contradicts the promise in the engine. Ended attempts are read first: they stay ended."""
        async with self.world.database.read() as session:
            ended = set(
                await session.scalars(select(Attempt.instance).where(Attempt.finished_at.is_not(None)))
            )
        live = [one["Labels"]["hypervisor.instance"] for one in await asyncio.to_thread(self._live)]
        parsed = [InstanceName.parse(name) for name in live]
        replicas = Counter((name.deployment_id, name.replica) for name in parsed if name is not None)
        return [
            *(f"{name} runs after its end" for name in live if name in ended),
            *(f"replica {key} runs {count} times" for key, count in replicas.items() if count > 1),
        ]

    def _live(self) -> list[Any]:
        return self.containers(live=True)

    async def codes(self, deployment: int) -> list[str | None]:
        return [event.code for event in await self.world.events(deployment)]


@asynccontextmanager
async def docker_site(database_url: str, folder: Path) -> AsyncIterator[DockerSite]:
    """A site on a migrated database; its containers are removed afterwards."""
    proxy = EngineProxy(folder, docker.endpoint())
    await proxy.mend()
    async with new_world(database_url, folder) as world:
        site = DockerSite(world, proxy, folder / "docker")
        site.cluster = await world.cluster(runtime="docker")
        try:
            yield site
        finally:
            docker.clean_up(world.install)
    await proxy.cut()


@asynccontextmanager
async def watched(site: DockerSite) -> AsyncIterator[None]:
    """Check the promise continuously during the block."""
    found: list[str] = []

    async def watch() -> None:
        while not found:
            found.extend(await site.violations())

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert not found
    await site.world.check_invariants()
