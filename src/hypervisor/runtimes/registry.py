"""Which engines there are, and what `auto` means on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable

RuntimeFactory = Callable[[str | None], Runtime]
"""Makes a runtime for an engine endpoint; None is this machine's default engine."""

Look = Callable[[], Awaitable[str | None]]
"""Describes an engine that answers; None where that takes a runtime. Raises RuntimeUnavailable."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The runtime behind a choice, and the plain words about it that people are shown."""

    name: str
    note: str


class RuntimeRegistry:
    """Opens each engine once and keeps it until `close`."""

    def __init__(
        self,
        factories: dict[str, RuntimeFactory],
        *,
        looks: Mapping[str, Look] | None = None,
    ) -> None:
        """`looks` tell, for some names, how to describe one without opening it."""
        self._factories = factories
        self._looks = looks or {}
        self._open: dict[EngineRef, Runtime] = {}

    def replaced(self, factories: dict[str, RuntimeFactory]) -> RuntimeRegistry:
        """Another registry, in which some names stand for others."""
        return RuntimeRegistry({**self._factories, **factories}, looks=self._looks)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._factories)

    def get(self, engine: EngineRef) -> Runtime:
        """The runtime that drives this engine. Raises KeyError for a name that is not registered."""
        if engine not in self._open:
            self._open[engine] = self._factories[engine.runtime](engine.endpoint)
        return self._open[engine]

    async def resolve(self, choice: str) -> Resolved:
        """What a choice stands for; `auto` is Docker if an engine answers now, else simulated."""
        if choice != "auto":
            return Resolved(choice, _note(choice))
        try:
            description = await self._describe("docker")
        except RuntimeUnavailable:
            return Resolved(
                "simulated",
                "auto: no Docker engine answered, so this cluster is SIMULATED and runs nothing for real; "
                "choose runtime process or docker for real work",
            )
        return Resolved("docker", f"auto: {description}")

    async def found(self) -> dict[str, str]:
        """Each runtime with a short description, or with why it cannot be used now."""
        lines: dict[str, str] = {}
        for name in self._factories:
            try:
                lines[name] = await self._describe(name)
            except RuntimeUnavailable as error:
                lines[name] = f"not available: {error}"
        return lines

    async def _describe(self, name: str) -> str:
        seen = await self._looks[name]() if name in self._looks else None
        return seen or (await self.get(EngineRef(name)).probe()).description

    async def forget(self, engine: EngineRef) -> None:
        """Close one. The next `get` opens it again and sees what is there."""
        opened = self._open.pop(engine, None)
        if opened is not None:
            await opened.close()

    async def close(self) -> None:
        for runtime in self._open.values():
            await runtime.close()
        self._open.clear()


def _note(choice: str) -> str:
    return {
        "simulated": "simulated: durations and outcomes come from labels, nothing runs for real",
        "process": "process: commands run on this machine as the server's user; limits are bookkeeping",
        "docker": "docker: images run on a Docker-compatible engine, with limits enforced",
    }.get(choice, choice)
