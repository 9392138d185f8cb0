"""The reference to the engine of a node, an attempt or a lease."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=False)
class EngineRef:
    """A runtime and the address of one of its engines. None is the default engine of a machine."""

    runtime: str
    endpoint: str | None = None

    def __str__(self) -> str:
        return f"{self.runtime} {self.endpoint}" if self.endpoint else self.runtime
