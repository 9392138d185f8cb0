"""The URL of the API as the workloads of each engine reach it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from hypervisor.addresses import network_host
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.runtimes.kinds import RUNTIMES
from hypervisor.settings import Settings


@dataclass(frozen=True, slots=True)
class ReportUrls:
    """URLs without a trailing slash. None: workloads of the engine cannot reach the API."""

    settings: Settings

    def of(self, engine: EngineRef) -> str | None:
        """PUBLIC_URL, else the server's own address; a container does not share its loopback addresses.

        A process with ROLE=scheduler serves no API, so it needs PUBLIC_URL.
        """
        if self.settings.public_url is not None:
            return self.settings.public_url
        if self.settings.role == "scheduler":
            return None
        if RUNTIMES[engine.runtime].local:
            return self.settings.local_url
        host = network_host(self.settings.host, _host_of(engine.endpoint or self.settings.docker_host))
        return None if host is None else f"http://{host}:{self.settings.port}"


def _host_of(endpoint: str | None) -> str | None:
    """The host of an engine's address; None for a socket on this machine."""
    try:
        return urlsplit(endpoint or "").hostname
    except ValueError:
        return None
