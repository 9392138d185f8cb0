"""The unplaced part of a plan without an object per deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from hypervisor.scheduling.outcome import Reason, Unplaced


@dataclass(frozen=True, slots=True)
class Waiting(Sequence[Unplaced]):
    """Deployment ids and their (shared) reasons, as `Unplaced` items made when they are looked at."""

    deployment_ids: Sequence[int]
    reasons: Sequence[Reason]

    def __len__(self) -> int:
        return len(self.deployment_ids)

    def __iter__(self) -> Iterator[Unplaced]:
        return map(Unplaced, self.deployment_ids, self.reasons)

    @overload
    def __getitem__(self, index: int) -> Unplaced: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Unplaced]: ...
    def __getitem__(self, index: int | slice) -> Unplaced | Sequence[Unplaced]:
        if isinstance(index, slice):
            return Waiting(self.deployment_ids[index], self.reasons[index])
        return Unplaced(self.deployment_ids[index], self.reasons[index])
