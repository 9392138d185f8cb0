"""Deterministic instance names: after a crash an instance is adopted, never started twice."""

from __future__ import annotations

import re
from dataclasses import dataclass

# ASCII digits, no leading zero, at most 64 bits.
_NUMBER = "(0|[1-9][0-9]{0,18})"
_PATTERN = re.compile(rf"hv-([a-z0-9]{{4,16}})-{_NUMBER}-{_NUMBER}-{_NUMBER}")


@dataclass(frozen=True, slots=True)
class InstanceName:
    """`hv-<install>-<deployment>-<attempt>-<replica>`: one attempt of one replica on one node."""

    install: str
    deployment_id: int
    attempt: int
    replica: int = 0

    def __str__(self) -> str:
        return f"hv-{self.install}-{self.deployment_id}-{self.attempt}-{self.replica}"

    @classmethod
    def parse(cls, text: str) -> InstanceName | None:
        """The parts of an instance name, or None for any other text."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            return None
        return cls(match[1], int(match[2]), int(match[3]), int(match[4]))
