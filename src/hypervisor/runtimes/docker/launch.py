"""Creates and starts each container exactly once, and separates a refusal from an unknown result."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from aiodocker.exceptions import DockerError

from hypervisor.kernel.failpoints import reached
from hypervisor.runtimes.docker.client import (
    LAUNCH_SECONDS,
    ContainerNotFound,
    ContainerStateConflict,
    DockerClient,
    is_container_not_found,
)
from hypervisor.runtimes.docker.config import container_config
from hypervisor.runtimes.docker.containers import belongs_to_install
from hypervisor.runtimes.docker.event_history import EventHistory
from hypervisor.runtimes.docker.images import ImagePuller
from hypervisor.runtimes.docker.network import InstallNetwork
from hypervisor.runtimes.docker.observe import Observer, observation, observed_state
from hypervisor.runtimes.protocol import (
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeUnavailable,
)

PullPolicy = Literal["if-missing", "always", "never"]

# The init is a separate program of the engine. These are its names in Docker and Podman.
_MISSING_INIT = re.compile(r"docker-init|container-init|catatonit")
_MISSING_LOG_DRIVER = re.compile(r"log driver|logging (driver|plugin)")
_PERMANENT = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error|is a directory"
    r"|argument list too long"
    r"|could not select device driver|no such device|unknown runtime",
    re.IGNORECASE,
)
_CREATOR_SECONDS: Final = 3.0
_CREATOR_POLL_SECONDS: Final = 0.1


class Launcher:
    """Starts the instances of one installation. The caller prevents concurrent starts of one name."""

    def __init__(
        self, client: DockerClient, observer: Observer, install: str, pull_policy: PullPolicy
    ) -> None:
        self._client = client
        self._observer = observer
        self._install = install
        self._pull_policy = pull_policy
        self._puller = ImagePuller(client)
        self._use_init = True
        self._exact_log = True
        self._network = InstallNetwork(client, install)
        self._event_history = EventHistory(client)

    async def launch(self, spec: LaunchSpec) -> Observation:
        """Create and start a container, or adopt the container with this name.

        Raises LaunchFailed, RuntimeUnavailable.
        """
        config = self._config(spec)
        if self._pull_policy == "always":
            existing = await self._observer.inspect(spec.instance)
            if existing is not None:
                return await self._adopt(spec, existing)
            await self._puller.pull(config["Image"])
        created = await self._create_or_pull(spec, config)
        if created is not None:
            reached("runtime_after_create_before_ack")
            return await self._run(spec, created)
        return await self._adopt(spec, await self._existing_container(spec.instance))

    async def close(self) -> None:
        """Cancel running pulls."""
        await self._puller.close()
        await self._network.close()

    def _config(self, spec: LaunchSpec) -> dict[str, Any]:
        return container_config(spec, self._install, init=self._use_init, exact_log=self._exact_log)

    async def _create_or_pull(self, spec: LaunchSpec, config: dict[str, Any]) -> str | None:
        """The id of the created container. None if the name is taken."""
        try:
            return await self._create(spec.instance, config)
        except DockerError as error:
            if not (_is_missing_image(error) and self._pull_policy == "if-missing"):
                return await self._on_create_error(spec, error)
        await self._puller.pull(config["Image"])
        try:
            return await self._create(spec.instance, config)
        except DockerError as error:
            return await self._on_create_error(spec, error)

    async def _create(self, name: str, config: dict[str, Any]) -> str | None:
        try:
            container = await self._network.run(
                lambda: self._client.call(
                    lambda docker: docker.containers.create(config, name=name), seconds=LAUNCH_SECONDS
                )
            )
        except DockerError as error:
            # Some versions of Podman answer 500 for a taken name.
            if error.status == 409 or (error.status == 500 and "already in use" in error.message):
                return None
            raise
        return str(container.id)

    async def _on_create_error(self, spec: LaunchSpec, error: DockerError) -> str | None:
        if error.status not in (404, 409) and self._use_init and _MISSING_INIT.search(error.message):
            self._use_init = False
            return await self._create_or_pull(spec, self._config(spec))
        if self._exact_log and _MISSING_LOG_DRIVER.search(error.message):
            self._exact_log = False
            return await self._create_or_pull(spec, self._config(spec))
        raise LaunchFailed(error.message, retryable=error.status >= 500) from error

    async def _run(self, spec: LaunchSpec, container: str) -> Observation:
        """Start the container that this call created. Remove it if it cannot be started."""
        try:
            await self._start(container)
        except DockerError as error:
            return await self._on_start_error(spec, container, error)
        return await self._observe(spec.instance)

    async def _start(self, container: str) -> None:
        """Start by id, which only the creator uses: see `_take_over`."""
        await self._network.run(
            lambda: self._client.call(
                lambda docker: docker.containers.container(container).start(), seconds=LAUNCH_SECONDS
            )
        )

    async def _on_start_error(self, spec: LaunchSpec, container: str, error: DockerError) -> Observation:
        """Remove the container and raise the engine's reason, unless the container runs anyway."""
        if is_container_not_found(error):
            raise RuntimeUnavailable(
                f"another scheduler has taken over the start of {spec.instance}"
            ) from error
        existing = await self._observer.inspect(container)
        if existing is not None:
            if observed_state(existing["State"]["Status"]) is not ObservedState.CREATED:
                return observation(existing)
            await self._discard(container)
        if self._use_init and _MISSING_INIT.search(error.message):
            return await self._launch_without_init(spec)
        retryable = error.status >= 500 and _PERMANENT.search(error.message) is None
        raise LaunchFailed(error.message, retryable=retryable) from error

    async def _launch_without_init(self, spec: LaunchSpec) -> Observation:
        self._use_init = False
        return await self.launch(spec)

    async def _discard(self, container: str) -> None:
        try:
            await self._remove(container)
        except ContainerStateConflict as error:
            raise RuntimeUnavailable(
                f"the container {container} can neither be started nor removed: {error}"
            ) from error

    async def _remove(self, container: str) -> bool:
        """Remove a container. False if it does not exist. Raises ContainerStateConflict while it runs."""
        try:
            await self._client.call_container(
                lambda docker: docker.containers.container(container).delete(v=True)
            )
        except ContainerNotFound:
            return False
        return True

    async def _existing_container(self, name: str) -> Mapping[str, Any]:
        """The container that has the name. An engine reserves a name before it shows the container."""
        for _ in range(int(_CREATOR_SECONDS / _CREATOR_POLL_SECONDS)):
            existing = await self._observer.inspect(name)
            if existing is not None:
                return existing
            await asyncio.sleep(_CREATOR_POLL_SECONDS)
        raise RuntimeUnavailable(
            f"the engine reports the name {name} as taken and shows no container with it"
        )

    async def _adopt(self, spec: LaunchSpec, existing: Mapping[str, Any]) -> Observation:
        if not belongs_to_install(existing, self._install):
            raise LaunchFailed(f"the name {spec.instance} is taken by a container of another installation")
        if observed_state(existing["State"]["Status"]) is not ObservedState.CREATED:
            return observation(existing)
        if await self._creator_starts(spec.instance, existing):
            return await self._observe(spec.instance)
        return await self._take_over(spec, existing)

    async def _take_over(self, spec: LaunchSpec, existing: Mapping[str, Any]) -> Observation:
        """Replace a container whose creator seems to have died before the start.

        The engine runs an ended container again when a start request arrives late. So only the creator starts
        a container, by its id, and another process removes the container before it creates a new one. The old
        container may have run before its removal; then its end is returned.
        """
        container = str(existing["Id"])
        try:
            removed = await self._remove(container)
        except ContainerStateConflict:
            return await self._observe(spec.instance)
        ended = await self._event_history.exit_of(container, existing["Created"]) if removed else None
        return await self.launch(spec) if ended is None else ended

    async def _creator_starts(self, name: str, existing: Mapping[str, Any]) -> bool:
        """Wait a moment for the process that created the container. True if the container was started."""
        created = datetime.fromisoformat(existing["Created"])
        age = (datetime.now(UTC) - created).total_seconds()
        for _ in range(int((_CREATOR_SECONDS - max(0.0, age)) / _CREATOR_POLL_SECONDS)):
            await asyncio.sleep(_CREATOR_POLL_SECONDS)
            if (await self._observe(name)).state is not ObservedState.CREATED:
                return True
        return False

    async def _observe(self, name: str) -> Observation:
        observed = await self._observer.observe(name)
        if observed.state is ObservedState.ABSENT:
            raise RuntimeUnavailable(f"{name} was removed while it was being started")
        return observed


def _is_missing_image(error: DockerError) -> bool:
    return error.status == 404 and "no such image" in error.message.lower()
