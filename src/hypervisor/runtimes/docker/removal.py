"""Removes an ended container, without force: the engine refuses if it runs again."""

from __future__ import annotations

import logging

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient, is_container_not_found

_log = logging.getLogger(__name__)


async def delete_container(client: DockerClient, container: str) -> bool:
    """Remove a container by id. True if it is gone, or if the engine can never start it again.

    False if it runs again or its removal is still in progress. The engine never starts a container that it
    is removing, so a removed container never runs. Raises RuntimeUnavailable.
    """
    try:
        await client.call(lambda docker: docker.containers.container(container).delete(v=True))
    except DockerError as error:
        if is_container_not_found(error):
            return True
        if await _is_dead(client, container):
            _log.warning("the engine cannot delete the files of %s: %s", container, error.message)
            return True
        # A refusal because it runs again is expected; an engine that fails keeps the attempt from ending.
        level = logging.INFO if error.status < 500 else logging.WARNING
        _log.log(level, "cannot remove %s now: %s", container, error.message)
        return False
    return True


async def _is_dead(client: DockerClient, container: str) -> bool:
    """Whether a failed removal has left a container that can neither be started nor used."""
    try:
        found = await client.call(lambda docker: docker.containers.get(container))
    except DockerError as error:
        return is_container_not_found(error)
    return bool(found["State"]["Status"] == "dead")
