"""Finds the containers of instances.

A container belongs to an instance by its label, which cannot be changed. Its name can: a renamed container is
found by its label, and gets its name back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aiodocker import Docker

from hypervisor.runtimes.docker.client import ContainerNotFound, ContainerStateConflict, DockerClient
from hypervisor.runtimes.docker.config import INSTALL_LABEL, INSTANCE_LABEL, is_container_name
from hypervisor.runtimes.protocol import RuntimeUnavailable

_log = logging.getLogger(__name__)


def belongs_to_install(details: Mapping[str, Any], install: str) -> bool:
    """Whether an inspected container belongs to this installation."""
    labels = details.get("Config", {}).get("Labels") or {}
    return bool(labels.get(INSTALL_LABEL) == install)


def restarts_by_engine(details: Mapping[str, Any]) -> bool:
    """Whether the engine starts an inspected container again after its end (docker update --restart)."""
    policy = (details.get("HostConfig", {}).get("RestartPolicy") or {}).get("Name")
    return policy not in (None, "", "no")


class Containers:
    """The containers of one installation."""

    def __init__(self, client: DockerClient, install: str) -> None:
        self._client = client
        self._install = install

    async def inspect(self, instance: str) -> dict[str, Any] | None:
        """The engine's JSON of the container of an instance, or of a container with this name or id.

        None if there is no such container. Raises RuntimeUnavailable.
        """
        if not is_container_name(instance):
            return None
        details = await self._get(instance)
        return details if details is not None else await self._renamed(instance)

    async def summaries(self) -> dict[str, Mapping[str, Any]]:
        """The engine's summary of each container by instance, with one call. Raises RuntimeUnavailable."""
        return _by_instance(await self._list())

    async def disable_restarts(self, container: str) -> None:
        """Take a restart policy back that was set from outside: each end must be an end, if possible."""
        body = {"RestartPolicy": {"Name": "no"}}
        await self._try(
            "take back the restart policy of",
            container,
            lambda docker: docker._query_json(f"containers/{container}/update", "POST", data=body),
        )

    async def _get(self, name: str) -> dict[str, Any] | None:
        try:
            container = await self._client.call_container(lambda docker: docker.containers.get(name))
        except ContainerNotFound:
            return None
        return container._container

    async def _renamed(self, instance: str) -> dict[str, Any] | None:
        for summary in await self._list(f"{INSTANCE_LABEL}={instance}"):
            await self._rename(summary["Id"], instance)
            details = await self._get(summary["Id"])
            if details is not None:
                return details
        return None

    async def _rename(self, container: str, name: str) -> None:
        await self._try(
            "rename", container, lambda docker: docker.containers.container(container).rename(name)
        )

    async def _try(self, what: str, container: str, action: Callable[[Docker], Awaitable[object]]) -> None:
        """Change a container if possible: a server that only reads cannot."""
        try:
            await self._client.call_container(action)
        except (ContainerNotFound, ContainerStateConflict, RuntimeUnavailable) as error:
            _log.info("cannot %s the container %s: %s", what, container, error)

    async def _list(self, *labels: str) -> list[Mapping[str, Any]]:
        filters = json.dumps({"label": [f"{INSTALL_LABEL}={self._install}", *labels]})
        containers = await self._client.call_container(
            lambda docker: docker.containers.list(all=True, filters=filters)
        )
        return [container._container for container in containers]


def _by_instance(summaries: Collection[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Summaries by instance. A copy of a container (docker commit) has its label too: it has its own name."""
    by_name = {str(summary["Names"][0]).lstrip("/"): summary for summary in summaries}
    found: dict[str, Mapping[str, Any]] = {}
    for name, summary in by_name.items():
        instance = str((summary.get("Labels") or {}).get(INSTANCE_LABEL, name))
        found[name if instance in by_name or instance in found else instance] = summary
    return found
