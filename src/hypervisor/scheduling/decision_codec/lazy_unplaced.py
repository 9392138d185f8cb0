"""The unplaced part of a plan without an object per deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from hypervisor.scheduling.plan_result import Reason, Unplaced
from hypervisor.scheduling.snapshots.snapshot import Int64


class LazyUnplaced(Sequence[Unplaced]):
    """Deployments by id and pending row, as `Unplaced` items made when they are looked at.

    `deployment_ids` has all of them in queue order. `reason` tells a row's reason. It is asked only then too,
    on the state in which the pass has ended, so the snapshot's arrays must still be what they were.
    """

    def __init__(self, deployment_ids: Int64, rows: Int64, reason: Callable[[int], Reason]) -> None:
        self.deployment_ids = deployment_ids
        self._rows = rows
        self._reason = reason

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Unplaced]:
        return map(Unplaced, self.deployment_ids.tolist(), map(self._reason, self._rows.tolist()))

    @overload
    def __getitem__(self, index: int) -> Unplaced: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Unplaced]: ...
    def __getitem__(self, index: int | slice) -> Unplaced | Sequence[Unplaced]:
        if isinstance(index, slice):
            return LazyUnplaced(self.deployment_ids[index], self._rows[index], self._reason)
        return Unplaced(int(self.deployment_ids[index]), self._reason(int(self._rows[index])))
