"""The protocol of the part that drives the engines, for the lease manager. The reconciler implements it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from hypervisor.kernel.engine_ref import EngineRef


class EngineDriver(Protocol):
    """Drives the engines whose leases this server holds."""

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        """The identity that each engine reports; engines that do not respond are missing."""
        ...

    def known_identity(self, engine: EngineRef) -> str | None:
        """The identity of an engine if it is known without a call, else None."""
        ...

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        """Drive these engines from now on."""
        ...

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        """Stop driving these engines; their workloads keep running. Returns when no call is in progress."""
        ...
