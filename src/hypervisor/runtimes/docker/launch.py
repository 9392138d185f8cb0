"""Creating and starting a container exactly once, and telling a refusal from not knowing."""

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
from hypervisor.runtimes.docker.event_history import EventHistory
from hypervisor.runtimes.docker.images import ImagePuller
from hypervisor.runtimes.docker.network import InstallNetwork
from hypervisor.runtimes.docker.observe import Observer, belongs_to_install, observation, observed_state
from hypervisor.runtimes.protocol import (
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeUnavailable,
)

PullPolicy = Literal["if-missing", "always", "never"]

# The init is a program of its own beside the engine; these are Docker's and Podman's names for it.
_NO_INIT = re.compile(r"docker-init|container-init|catatonit")
_NEVER_WORKS = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error|is a directory"
    r"|could not select device driver|no such device|unknown runtime",
    re.IGNORECASE,
)
_CREATOR_SECONDS: Final = 3.0
_CREATOR_POLL: Final = 0.1


class Launcher:
    """Starts instances of one installation; callers keep two starts of one name from overlapping."""

    def __init__(self, engine: DockerClient, observer: Observer, install: str, policy: PullPolicy) -> None:
        self._engine = engine
        self._observer = observer
        self._install = install
        self._policy = policy
        self.puller = ImagePuller(engine)
        self._init = True
        self._network = InstallNetwork(engine, install)
        self._past = EventHistory(engine)

    async def launch(self, spec: LaunchSpec) -> Observation:
        """Create and start, or adopt what has the name. Raises LaunchFailed, RuntimeUnavailable."""
        config = container_config(spec, self._install, init=self._init)
        if self._policy == "always":
            present = await self._observer.inspect(spec.instance)
            if present is not None:
                return await self._adopt(spec, present)
            await self.puller.pull(config["Image"])
        created = await self._create_or_pull(spec, config)
        if created is not None:
            reached("runtime_after_create_before_ack")
            return await self._run(spec, created)
        return await self._adopt(spec, await self._holder(spec.instance))

    async def close(self) -> None:
        await self.puller.close()
        await self._network.close()

    async def _create_or_pull(self, spec: LaunchSpec, config: dict[str, Any]) -> str | None:
        """The id of the container that this call made; None when the name is taken."""
        try:
            return await self._create(spec.instance, config)
        except DockerError as error:
            if not (_says_no_image(error) and self._policy == "if-missing"):
                return await self._create_refused(spec, error)
        await self.puller.pull(config["Image"])
        try:
            return await self._create(spec.instance, config)
        except DockerError as error:
            return await self._create_refused(spec, error)

    async def _create(self, name: str, config: dict[str, Any]) -> str | None:
        try:
            made = await self._network.run(
                lambda: self._engine.attempt(
                    lambda docker: docker.containers.create(config, name=name), seconds=LAUNCH_SECONDS
                )
            )
        except DockerError as error:
            # Podman has answered 500 for a taken name.
            if error.status == 409 or (error.status == 500 and "already in use" in error.message):
                return None
            raise
        return str(made.id)

    async def _create_refused(self, spec: LaunchSpec, error: DockerError) -> str | None:
        if error.status not in (404, 409) and self._init and _NO_INIT.search(error.message):
            self._init = False
            return await self._create_or_pull(spec, container_config(spec, self._install, init=False))
        raise LaunchFailed(error.message, retryable=error.status >= 500) from error

    async def _run(self, spec: LaunchSpec, container: str) -> Observation:
        """Start the container that this call has created; one that cannot be started is not left behind."""
        try:
            await self._start(container)
        except DockerError as error:
            return await self._start_refused(spec, container, error)
        return await self._seen(spec.instance)

    async def _start(self, container: str) -> None:
        """By its id, which its creator alone knows: see `_take_over`."""
        await self._network.run(
            lambda: self._engine.attempt(
                lambda docker: docker.containers.container(container).start(), seconds=LAUNCH_SECONDS
            )
        )

    async def _start_refused(self, spec: LaunchSpec, container: str, error: DockerError) -> Observation:
        """The engine said no: unless it runs all the same, take the container away and say why."""
        if is_container_not_found(error):
            raise RuntimeUnavailable(f"somebody else has taken over the start of {spec.instance}") from error
        present = await self._observer.inspect(container)
        if present is not None:
            if observed_state(present["State"]["Status"]) is not ObservedState.CREATED:
                return observation(present)
            await self._discard(container)
        if self._init and _NO_INIT.search(error.message):
            return await self._without_init(spec)
        retryable = error.status >= 500 and _NEVER_WORKS.search(error.message) is None
        raise LaunchFailed(error.message, retryable=retryable) from error

    async def _without_init(self, spec: LaunchSpec) -> Observation:
        self._init = False
        return await self.launch(spec)

    async def _discard(self, container: str) -> None:
        try:
            await self._remove(container)
        except ContainerStateConflict as error:
            raise RuntimeUnavailable(f"{container} can neither be started nor removed: {error}") from error

    async def _remove(self, container: str) -> bool:
        """Whether this call removed it; False when it was gone. Raises WrongState while it runs."""
        try:
            await self._engine.ask(lambda docker: docker.containers.container(container).delete(v=True))
        except ContainerNotFound:
            return False
        return True

    async def _holder(self, name: str) -> Mapping[str, Any]:
        """What has the name: an engine takes a name for a new container before it shows the container."""
        for _ in range(int(_CREATOR_SECONDS / _CREATOR_POLL)):
            present = await self._observer.inspect(name)
            if present is not None:
                return present
            await asyncio.sleep(_CREATOR_POLL)
        raise RuntimeUnavailable(f"the engine says that {name} is taken and shows no container of this name")

    async def _adopt(self, spec: LaunchSpec, present: Mapping[str, Any]) -> Observation:
        if not belongs_to_install(present, self._install):
            raise LaunchFailed(f"the name {spec.instance} is taken by a container of somebody else")
        if observed_state(present["State"]["Status"]) is not ObservedState.CREATED:
            return observation(present)
        if await self._creator_starts_it(spec.instance, present):
            return await self._seen(spec.instance)
        return await self._take_over(spec, present)

    async def _take_over(self, spec: LaunchSpec, present: Mapping[str, Any]) -> Observation:
        """Put a container of our own in the place of one that its creator seems to have left alone.

        The engine runs an ended container once more when it is told to start it, however late that request
        arrives. So none is ever told twice: only its creator starts a container, by its id, and whoever
        takes over removes it first. Between our look at it and its removal it may have run after all.
        """
        container = str(present["Id"])
        try:
            removed = await self._remove(container)
        except ContainerStateConflict:
            return await self._seen(spec.instance)
        ended = await self._past.end_of(container, present["Created"]) if removed else None
        return await self.launch(spec) if ended is None else ended

    async def _creator_starts_it(self, name: str, present: Mapping[str, Any]) -> bool:
        """Give another process that has just created the container a moment to start it."""
        created = datetime.fromisoformat(present["Created"])
        age = (datetime.now(UTC) - created).total_seconds()
        for _ in range(int((_CREATOR_SECONDS - max(0.0, age)) / _CREATOR_POLL)):
            await asyncio.sleep(_CREATOR_POLL)
            if (await self._seen(name)).state is not ObservedState.CREATED:
                return True
        return False

    async def _seen(self, name: str) -> Observation:
        seen = await self._observer.one(name)
        if seen.state is ObservedState.ABSENT:
            raise RuntimeUnavailable(f"{name} was removed while it was being started")
        return seen


def _says_no_image(error: DockerError) -> bool:
    return error.status == 404 and "no such image" in error.message.lower()
