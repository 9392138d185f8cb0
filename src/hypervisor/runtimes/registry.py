"""The runtimes of this server by name, and what `auto` resolves to on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable

RuntimeFactory = Callable[[str | None], Runtime]
"""Makes a runtime for an engine endpoint. None is the default engine of this machine."""

EngineDescriber = Callable[[], Awaitable[str | None]]
"""Describes an engine that answers, without its runtime. None: only the runtime can describe it.

Raises RuntimeUnavailable.
"""


@dataclass(frozen=True, slots=True)
class ResolvedRuntime:
    """The runtime of a cluster after `auto` was resolved, and a sentence about it for people."""

    name: str
    note: str


class RuntimeRegistry:
    """Opens each engine once and keeps it open until `close`."""

    def __init__(
        self,
        factories: dict[str, RuntimeFactory],
        *,
        describers: Mapping[str, EngineDescriber] | None = None,
    ) -> None:
        """`factories` and `describers` are keyed by the runtime's name.

        A runtime without a describer is opened to describe it.
        """
        self._factories = factories
        self._describers = describers or {}
        self._open: dict[EngineRef, Runtime] = {}

    def with_factories(self, factories: dict[str, RuntimeFactory]) -> RuntimeRegistry:
        """Return a new registry with these factories in place of those of the same names."""
        return RuntimeRegistry({**self._factories, **factories}, describers=self._describers)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all runtimes."""
        return tuple(self._factories)

    def get(self, engine: EngineRef) -> Runtime:
        """Return the runtime that drives this engine. Raises KeyError for an unknown runtime name."""
        if engine not in self._open:
            self._open[engine] = self._factories[engine.runtime](engine.endpoint)
        return self._open[engine]

    async def resolve(self, choice: str) -> ResolvedRuntime:
        """Return the runtime for a choice. `auto` is Docker if an engine answers now, else simulated."""
        if choice != "auto":
            return ResolvedRuntime(choice, _note(choice))
        try:
            description = await self._describe("docker")
        except RuntimeUnavailable:
            return ResolvedRuntime(
                "simulated",
                "auto: no Docker engine answered, so this cluster is SIMULATED and runs nothing for real; "
                "choose runtime process or docker for real work",
            )
        return ResolvedRuntime("docker", f"auto: {description}")

    async def describe_all(self) -> dict[str, str]:
        """Return a short description of each runtime by name, or the reason why it is not available."""
        descriptions: dict[str, str] = {}
        for name in self._factories:
            try:
                descriptions[name] = await self._describe(name)
            except RuntimeUnavailable as error:
                descriptions[name] = f"not available: {error}"
        return descriptions

    async def _describe(self, name: str) -> str:
        description = await self._describers[name]() if name in self._describers else None
        return description or (await self.get(EngineRef(name)).probe()).description

    async def forget(self, engine: EngineRef) -> None:
        """Close the runtime of one engine. The next `get` opens it again and adopts its instances."""
        opened = self._open.pop(engine, None)
        if opened is not None:
            await opened.close()

    async def close(self) -> None:
        """Close every open runtime. Instances keep running."""
        for runtime in self._open.values():
            await runtime.close()
        self._open.clear()


def _note(choice: str) -> str:
    return {
        "simulated": "simulated: durations and outcomes come from labels; nothing runs for real",
        "process": "process: commands run on this machine as the server's user; limits are not enforced",
        "docker": "docker: images run on a Docker-compatible engine, with limits enforced",
    }.get(choice, choice)
