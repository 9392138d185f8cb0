"""The base class of read-only runtimes: logs and states of instances that another process drives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping
from typing import NoReturn

from hypervisor.runtimes.protocol import LaunchSpec, LogChunk, Observation, RuntimeInfo, RuntimeUnavailable


class ReadOnlyRuntime(ABC):
    """A `Runtime` that only reads. Every call that changes something raises RuntimeUnavailable."""

    ends_are_final = True

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    async def probe(self) -> RuntimeInfo: ...

    @abstractmethod
    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]: ...

    @abstractmethod
    async def list_instances(self) -> Mapping[str, Observation]: ...

    @abstractmethod
    def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]: ...

    async def start(self, spec: LaunchSpec) -> Observation:
        self._refuse()

    async def stop(self, instance: str, grace_seconds: float) -> None:
        self._refuse()

    async def remove(self, instance: str) -> bool:
        self._refuse()

    async def purge_logs(self, instance: str) -> None:
        self._refuse()

    def changes(self) -> AsyncIterator[str]:
        self._refuse()

    async def close(self) -> None:  # noqa: B027
        """Do nothing: no connection or file stays open between two calls."""

    def _refuse(self) -> NoReturn:
        raise RuntimeUnavailable(
            f"this process only reads the {self.name} runtime; only a scheduler process can change instances"
        )
