"""Sends signals to containers: the stop signal of the image, and SIGKILL."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import ContainerNotFound, ContainerStateConflict, DockerClient

DEFAULT_STOP_SIGNAL: Final = "SIGTERM"
_log = logging.getLogger(__name__)


class _UnknownSignal(Exception):
    """The engine refuses the name or the number of the signal."""


def stop_signal(details: Mapping[str, Any]) -> str:
    """The stop signal of an inspected container, from its image: a name or a number for the engine to parse.

    Engines take "SIGINT", "quit", "RTMIN", "SIGRTMIN+3" and "9", and let images have others.
    """
    return str(details.get("Config", {}).get("StopSignal") or DEFAULT_STOP_SIGNAL)


async def send_stop_signal(client: DockerClient, details: Mapping[str, Any]) -> bool:
    """Send the stop signal of an inspected container. True if the container was running.

    If the engine has no such signal, SIGTERM is sent. An engine may refuse that too for a container with an
    unknown stop signal. Then nothing but the SIGKILL at the deadline ends it. Raises RuntimeUnavailable.
    """
    container = str(details["Id"])
    for signal in (stop_signal(details), DEFAULT_STOP_SIGNAL):
        try:
            return await send_signal(client, container, signal)
        except _UnknownSignal as error:
            _log.warning("%s has the stop signal %r: %s", container, stop_signal(details), error)
    return True


async def send_signal(client: DockerClient, container: str, signal: str) -> bool:
    """Send a signal. True if the container was running. Raises RuntimeUnavailable."""
    try:
        await client.call_container(lambda docker: _kill(docker.containers.container(container), signal))
    except (ContainerNotFound, ContainerStateConflict):
        return False
    return True


async def _kill(container: Any, signal: str) -> None:
    try:
        await container.kill(signal=signal)
    except DockerError as error:
        if "invalid signal" in error.message.lower() or "not support signal" in error.message:
            raise _UnknownSignal(error.message) from error
        raise
