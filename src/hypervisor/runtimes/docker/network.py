"""The bridge network of an installation: created when missing or pruned, reduced to one if there are two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import INSTALL_LABEL, network_config, network_name
from hypervisor.runtimes.protocol import LaunchFailed, RuntimeUnavailable

T = TypeVar("T")


class InstallNetwork:
    """Ensures the network once for each process. Concurrent starts share one check."""

    def __init__(self, client: DockerClient, install: str) -> None:
        self._client = client
        self._install = install
        self._name = network_name(install)
        self._ensured: asyncio.Task[None] | None = None

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run a call that needs the network. Run it again if the network was pruned or duplicated.

        Raises LaunchFailed when the network cannot be created, RuntimeUnavailable, and what `action` raises.
        """
        await self._ensure()
        try:
            return await action()
        except DockerError as error:
            if not self._is_network_error(error):
                raise
        self._ensured = None
        await self._ensure()
        return await action()

    async def close(self) -> None:
        if self._ensured is not None:
            self._ensured.cancel()
            await asyncio.gather(self._ensured, return_exceptions=True)

    def _is_network_error(self, error: DockerError) -> bool:
        message = error.message
        return f"network {self._name}" in message and ("not found" in message or "ambiguous" in message)

    async def _ensure(self) -> None:
        if self._ensured is None:
            self._ensured = asyncio.create_task(self._create_one(), name="engine network")
        task = self._ensured
        try:
            await asyncio.shield(task)
        except (LaunchFailed, RuntimeUnavailable):
            if self._ensured is task:
                self._ensured = None
            raise

    async def _create_one(self) -> None:
        try:
            if not await self._list():
                await self._create()
            await self._delete_duplicates()
        except DockerError as error:
            raise LaunchFailed(error.message, retryable=True) from error

    async def _list(self) -> list[Mapping[str, Any]]:
        """The networks of this installation, oldest first."""
        filters = {"label": [f"{INSTALL_LABEL}={self._install}"]}
        networks = await self._client.call(lambda docker: docker.networks.list(filters=filters))
        own = [network for network in networks if network["Name"] == self._name]
        return sorted(own, key=lambda network: (network["Created"], network["Id"]))

    async def _create(self) -> None:
        try:
            await self._post(isolated=True)
        except DockerError as error:
            if error.status == 409:  # another process created it
                return
            # Some versions of Podman lack the option. A network without it is better than none.
            if "enable_icc" not in error.message:
                raise
            await self._post(isolated=False)

    async def _post(self, *, isolated: bool) -> None:
        config = network_config(self._install, isolated=isolated)
        await self._client.call(lambda docker: docker.networks.create(config))

    async def _delete_duplicates(self) -> None:
        """Delete all networks of this name but one.

        Engines let two clients create the same name at once, and then refuse to use it. Every process deletes
        the youngest first. A network that is in use cannot be deleted and stays.
        """
        networks = await self._list()
        excess = len(networks) - 1
        for network in reversed(networks):
            if excess > 0 and await self._delete(network["Id"]):
                excess -= 1

    async def _delete(self, network_id: str) -> bool:
        try:
            network = await self._client.call(lambda docker: docker.networks.get(network_id))
            await self._client.call(lambda _: network.delete())
        except DockerError as error:
            return error.status == 404
        return True
