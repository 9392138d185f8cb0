"""The Docker runtime as the rest of the product sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import (
    ContainerNotFound,
    ContainerStateConflict,
    DockerClient,
    is_container_not_found,
)
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.docker.event_listener import EventListener
from hypervisor.runtimes.docker.launch import Launcher, PullPolicy
from hypervisor.runtimes.docker.logs import LogArchive, read_lines
from hypervisor.runtimes.docker.observe import Observer, belongs_to_install, observed_state
from hypervisor.runtimes.docker.stop import Stopper
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeInfo,
    RuntimeUnavailable,
)

_MIB: Final = 1024 * 1024
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to start one instance; lives as long as somebody waits for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class DockerRuntime:
    """Implements `Runtime` on a Docker-compatible engine (Docker from 20.10, Podman's compatible API)."""

    def __init__(
        self,
        install: str,
        endpoint: str | None = None,
        *,
        pull_policy: PullPolicy = "if-missing",
        log_dir: Path | None = None,
    ) -> None:
        """`install` labels what is ours on the engine; `endpoint` as for `DockerClient`.

        The engine drops a container's log with the container: `remove` saves its last MiB in `log_dir`,
        where `logs` finds it until `purge_logs`. Deadlines of stops are kept there as well. Without
        `log_dir`, logs end with `remove`, and a restart of this process starts a new grace period.
        """
        self._engine = DockerClient(endpoint)
        self._install = install
        self._observer = Observer(self._engine, install)
        self._launcher = Launcher(self._engine, self._observer, install, pull_policy)
        self._stopper = Stopper(self._engine, log_dir)
        self._archive = LogArchive(log_dir)
        self._turns: dict[str, _Turn] = {}
        self._events = EventListener(self._engine, self._observer, install, self._turns.__contains__)

    @property
    def name(self) -> str:
        return "docker"

    async def probe(self) -> RuntimeInfo:
        """Version and size of the engine's machine. Raises RuntimeUnavailable."""
        version, info = await self._facts()
        gpu = "nvidia" if "nvidia" in (info.get("Runtimes") or {}) else "none"
        return RuntimeInfo(
            name=self.name,
            description=f"Docker Engine {version['Version']} at {self._engine.endpoint}",
            cpu_milli=int(info["NCPU"]) * 1000,
            ram_mib=int(info["MemTotal"]) // _MIB,
            details={
                "version": str(version["Version"]),
                "api_version": str(version["ApiVersion"]),
                "os": str(info.get("OperatingSystem", "")),
                "gpu_runtime": gpu,
            },
            identity=_identity(self._engine.endpoint, version, info),
        )

    async def start(self, spec: LaunchSpec) -> Observation:
        if not is_container_name(spec.instance):
            raise LaunchFailed(f"invalid instance name: {spec.instance!r}")
        async with self._one_start(spec.instance):
            seen = await self._launcher.launch(spec)
            self._stopper.started(spec.instance)
            return seen

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        wanted = set(instances)
        if not wanted:
            return {}
        if len(wanted) == 1:
            only = next(iter(wanted))
            return {only: await self._observer.one(only)}
        seen = await self._observer.many(wanted)
        return {name: seen.get(name, ABSENT) for name in wanted}

    async def list_instances(self) -> Mapping[str, Observation]:
        return await self._observer.many()

    async def stop(self, instance: str, grace_seconds: float) -> None:
        await self._stopper.stop(instance, grace_seconds)

    async def remove(self, instance: str) -> None:
        details = await self._observer.inspect(instance)
        if details is None or not belongs_to_install(details, self._install):
            return
        if observed_state(details["State"]["Status"]) is ObservedState.RUNNING:
            return
        await self._save_logs(instance)
        await self._delete(instance)
        self._stopper.forget(instance)

    async def logs(
        self, instance: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """Lines from the engine, or the saved ones of a removed container. Raises RuntimeUnavailable."""
        if not is_container_name(instance):
            return
        try:
            async for line in read_lines(self._engine, instance, tail=tail, follow=follow):
                yield line
        except DockerError as error:
            if (
                not is_container_not_found(error) and error.status != 409
            ):  # 409: it is being removed at this moment
                raise RuntimeUnavailable(f"no logs of {instance}: {error.message}") from error
            for line in await self._archive.lines(instance, tail):
                yield line

    async def purge_logs(self, instance: str) -> None:
        await self._archive.purge(instance)

    def changes(self) -> AsyncIterator[str]:
        return self._events.listen()

    async def close(self) -> None:
        await self._events.close()
        await self._stopper.close()
        await self._launcher.close()
        await self._engine.close()

    async def _facts(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        try:
            version = await self._engine.ask(lambda docker: docker.version())
            return version, await self._engine.ask(lambda docker: docker.system.info())
        except (ContainerNotFound, ContainerStateConflict) as error:
            raise RuntimeUnavailable(f"{self._engine.endpoint} is no engine: {error}") from error

    @asynccontextmanager
    async def _one_start(self, name: str) -> AsyncIterator[None]:
        """Starts of one name wait for each other; others, with their long pulls, do not."""
        turn = self._turns.setdefault(name, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[name]

    async def _save_logs(self, instance: str) -> None:
        """Best effort: a full disk or an unreadable log must not keep a container for ever."""
        try:
            await self._archive.save(self._engine, instance)
        except (OSError, DockerError) as error:
            _log.warning("the log of %s is lost with its container: %s", instance, error)

    async def _delete(self, instance: str) -> None:
        try:
            await self._engine.ask(lambda docker: docker.containers.container(instance).delete(v=True))
        except ContainerNotFound:
            return
        except ContainerStateConflict as error:
            _log.info("%s is not removed now: %s", instance, error)


def _identity(endpoint: str, version: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """A network address names the same engine from everywhere; behind a socket, Docker's own id tells.

    Podman makes up another id for each answer.
    """
    if not endpoint.startswith("unix://"):
        return endpoint
    components = {str(one.get("Name")) for one in version.get("Components") or ()}
    return None if "Podman Engine" in components else str(info["ID"]) if info.get("ID") else None
