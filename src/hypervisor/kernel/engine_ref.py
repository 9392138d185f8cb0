"""Which engine a node, an attempt or a lease belongs to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=False)
class EngineRef:
    """A runtime and the address of one of its engines; no address is the default engine of a machine."""

    runtime: str
    endpoint: str | None = None

    def __str__(self) -> str:
        return f"{self.runtime} {self.endpoint}" if self.endpoint else self.runtime
