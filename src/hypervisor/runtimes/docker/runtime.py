"""Implements the protocol with the other modules of this package."""

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
from hypervisor.runtimes.docker.containers import Containers, belongs_to_install
from hypervisor.runtimes.docker.event_listener import EventListener
from hypervisor.runtimes.docker.launch import Launcher, PullPolicy
from hypervisor.runtimes.docker.log_archive import LogArchive
from hypervisor.runtimes.docker.log_place import Place
from hypervisor.runtimes.docker.logs import read_output
from hypervisor.runtimes.docker.observe import Observer, observed_state
from hypervisor.runtimes.docker.removal import delete_container
from hypervisor.runtimes.docker.stop import Stopper
from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    LogChunk,
    Observation,
    ObservedState,
    Runtime,
    RuntimeInfo,
    RuntimeUnavailable,
)

_MIB: Final = 1024 * 1024
_log = logging.getLogger(__name__)


def open_runtime(setup: RuntimeSetup, endpoint: str | None) -> Runtime:
    """See `RuntimeModule`."""
    return DockerRuntime(
        setup.install,
        endpoint or setup.settings.docker_host,
        pull_policy=setup.settings.docker_pull_policy,
        log_dir=setup.data_dir / "docker",
    )


@dataclass(slots=True)
class _StartLock:
    """Serialises the starts of one instance. Deleted with its last waiter."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: int = 0


class DockerRuntime:
    """Implements `hypervisor.runtimes.protocol.Runtime` on Docker (20.10 or later) or Podman's Docker API."""

    ends_are_final = False
    """`docker start` and `docker restart` run an ended container again."""

    def __init__(
        self,
        install: str,
        endpoint: str | None = None,
        *,
        pull_policy: PullPolicy = "if-missing",
        log_dir: Path | None = None,
    ) -> None:
        """`install` labels the containers of this installation; `endpoint` as for `DockerClient`.

        The engine deletes a log with its container, so `remove` saves it in `log_dir`, where `logs` reads it
        until `purge_logs`. The deadlines of stops are stored there as well. Without `log_dir`
        the logs end with `remove`, and a restart of this process starts a new grace period.
        """
        self._client = DockerClient(endpoint)
        self._install = install
        self._containers = Containers(self._client, install)
        self._observer = Observer(self._client, self._containers, install)
        self._launcher = Launcher(self._client, self._observer, install, pull_policy)
        self._stopper = Stopper(self._client, self._containers, log_dir)
        self._archive = LogArchive(log_dir)
        self._start_locks: dict[str, _StartLock] = {}
        self._events = EventListener(
            self._client, self._containers, self._observer, install, self._start_locks.__contains__
        )

    @property
    def name(self) -> str:
        return "docker"

    async def probe(self) -> RuntimeInfo:
        """Return the version of the engine and the size of its machine. Raises RuntimeUnavailable."""
        version, info = await self._version_and_info()
        gpu = "nvidia" if "nvidia" in (info.get("Runtimes") or {}) else "none"
        return RuntimeInfo(
            name=self.name,
            description=f"Docker Engine {version['Version']} at {self._client.endpoint}",
            cpu_milli=int(info["NCPU"]) * 1000,
            ram_mib=int(info["MemTotal"]) // _MIB,
            details={
                "version": str(version["Version"]),
                "api_version": str(version["ApiVersion"]),
                "os": str(info.get("OperatingSystem", "")),
                "gpu_runtime": gpu,
            },
            identity=_identity(self._client.endpoint, version, info),
        )

    async def start(self, spec: LaunchSpec) -> Observation:
        if not is_container_name(spec.instance):
            raise LaunchFailed(f"invalid instance name: {spec.instance!r}")
        async with self._start_lock(spec.instance):
            observed = await self._launcher.launch(spec)
            self._stopper.record_start(spec.instance)
            return observed

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        names = set(instances)
        if not names:
            return {}
        if len(names) == 1:
            (name,) = names
            return {name: await self._observer.observe(name)}
        observed = await self._observer.observe_many(names)
        return {name: observed.get(name, ABSENT) for name in names}

    async def list_instances(self) -> Mapping[str, Observation]:
        return await self._observer.observe_many()

    async def stop(self, instance: str, grace_seconds: float) -> None:
        await self._stopper.stop(instance, grace_seconds)

    async def remove(self, instance: str) -> bool:
        details = await self._containers.inspect(instance)
        if details is not None and belongs_to_install(details, self._install):
            if observed_state(details["State"]["Status"]) is ObservedState.RUNNING:
                return False
            await self._save_logs(instance)
            if not await delete_container(self._client, str(details["Id"])):
                return False
        self._stopper.forget(instance)
        return True

    async def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        """The output from the engine, or the saved one of a removed container. Raises RuntimeUnavailable.

        A container may be removed meanwhile: the saved log goes on at the same place.
        """
        if not is_container_name(instance):
            return
        begin, position = Place.parse(after) if after else tail, after
        try:
            async for chunk in read_output(self._client, instance, begin, follow=follow):
                position = chunk.position
                yield chunk
        except DockerError as error:
            if not is_container_not_found(error) and error.status != 409:  # 409: it is being removed
                raise RuntimeUnavailable(f"cannot read the log of {instance}: {error.message}") from error
            async for chunk in self._archive.output(instance, tail, position):
                yield chunk

    async def purge_logs(self, instance: str) -> None:
        await self._archive.purge(instance)

    def changes(self) -> AsyncIterator[str]:
        return self._events.subscribe()

    async def close(self) -> None:
        await self._events.close()
        await self._stopper.close()
        await self._launcher.close()
        await self._client.close()

    async def _version_and_info(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        try:
            version = await self._client.call_container(lambda docker: docker.version())
            return version, await self._client.call_container(lambda docker: docker.system.info())
        except (ContainerNotFound, ContainerStateConflict) as error:
            raise RuntimeUnavailable(f"{self._client.endpoint} is not a container engine: {error}") from error

    @asynccontextmanager
    async def _start_lock(self, name: str) -> AsyncIterator[None]:
        """Serialise the starts of one name. Other starts, with their long pulls, do not wait."""
        start = self._start_locks.setdefault(name, _StartLock())
        start.waiters += 1
        try:
            async with start.lock:
                yield
        finally:
            start.waiters -= 1
            if not start.waiters:
                del self._start_locks[name]

    async def _save_logs(self, instance: str) -> None:
        """Save the log if possible: a full disk or an unreadable log must not prevent the removal."""
        try:
            await self._archive.save(self._client, instance)
        except (OSError, DockerError) as error:
            _log.warning("cannot save the log of %s before its container is removed: %s", instance, error)


def _identity(endpoint: str, version: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """The identity of the engine: its network address, or Docker's own id for an engine behind a socket.

    None for Podman behind a socket, which makes up another id for each response.
    """
    if not endpoint.startswith("unix://"):
        return endpoint
    components = {str(one.get("Name")) for one in version.get("Components") or ()}
    return None if "Podman Engine" in components else str(info["ID"]) if info.get("ID") else None
