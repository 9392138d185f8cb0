"""The bridge network of an installation: made when missing, again when pruned, one even if two are made."""

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
    """Made sure of once a process; starts that come at the same time wait for the same answer."""

    def __init__(self, engine: DockerClient, install: str) -> None:
        self._engine = engine
        self._install = install
        self._name = network_name(install)
        self._ensured: asyncio.Task[None] | None = None

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run an engine call that needs the network; once more if it was pruned or doubled meanwhile.

        Raises LaunchFailed when the network cannot be had, RuntimeUnavailable, and what `action` raises.
        """
        await self._ensure()
        try:
            return await action()
        except DockerError as error:
            if not self._is_blamed(error):
                raise
        self._ensured = None
        await self._ensure()
        return await action()

    async def close(self) -> None:
        if self._ensured is not None:
            self._ensured.cancel()
            await asyncio.gather(self._ensured, return_exceptions=True)

    def _is_blamed(self, error: DockerError) -> bool:
        words = error.message
        return f"network {self._name}" in words and ("not found" in words or "ambiguous" in words)

    async def _ensure(self) -> None:
        if self._ensured is None:
            self._ensured = asyncio.create_task(self._make_one(), name="engine network")
        task = self._ensured
        try:
            await asyncio.shield(task)
        except (LaunchFailed, RuntimeUnavailable):
            if self._ensured is task:
                self._ensured = None
            raise

    async def _make_one(self) -> None:
        try:
            if not await self._present():
                await self._create()
            await self._drop_doubles()
        except DockerError as error:
            raise LaunchFailed(error.message, retryable=True) from error

    async def _present(self) -> list[Mapping[str, Any]]:
        """Our networks, oldest first."""
        filters = {"label": [f"{INSTALL_LABEL}={self._install}"]}
        found = await self._engine.attempt(lambda docker: docker.networks.list(filters=filters))
        ours = [network for network in found if network["Name"] == self._name]
        return sorted(ours, key=lambda network: (network["Created"], network["Id"]))

    async def _create(self) -> None:
        try:
            await self._post(isolated=True)
        except DockerError as error:
            if error.status == 409:  # another process was faster
                return
            # Some versions of Podman do not know the option; a network of its own is better than none.
            if "enable_icc" not in error.message:
                raise
            await self._post(isolated=False)

    async def _post(self, *, isolated: bool) -> None:
        config = network_config(self._install, isolated=isolated)
        await self._engine.attempt(lambda docker: docker.networks.create(config))

    async def _drop_doubles(self) -> None:
        """Engines do not keep two clients from making the same name at once, and then refuse to use it.

        Everybody drops the youngest first; one that is already in use cannot be dropped, and stays.
        """
        networks = await self._present()
        too_many = len(networks) - 1
        for network in reversed(networks):
            if too_many > 0 and await self._drop(network["Id"]):
                too_many -= 1

    async def _drop(self, network_id: str) -> bool:
        try:
            network = await self._engine.attempt(lambda docker: docker.networks.get(network_id))
            await self._engine.attempt(lambda _: network.delete())
        except DockerError as error:
            return error.status == 404
        return True
