"""The unplaced part of a plan without an object per deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from hypervisor.scheduling.plan_result import Reason, Unplaced
from hypervisor.scheduling.snapshots.snapshot import Int64


class LazyUnplaced(Sequence[Unplaced]):
    """Deployments by id and pending row; `Unplaced` items are made on access.

    `deployment_ids` has all of them in queue order. `reason` gives the reason of a row. It is called on
    access and reads the final state of the pass, so the arrays of the snapshot must not change.
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
