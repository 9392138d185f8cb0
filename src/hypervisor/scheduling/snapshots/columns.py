"""Changed copies of snapshots: tables with rows filtered and joined."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.snapshots.snapshot import (
    AllocationTable,
    Bool,
    PendingTable,
    Quota,
    Shape,
    Snapshot,
)

T = TypeVar("T", AllocationTable, PendingTable)


def rows_where(table: T, chosen: Bool) -> T:
    """The table with the chosen rows only."""
    return replace(table, **{field.name: getattr(table, field.name)[chosen] for field in fields(table)})


def joined(first: T, second: T) -> T:
    """The rows of both. Indices into other tables must mean the same in both."""
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(first)
    }
    return replace(first, **columns)


def with_shape(snapshot: Snapshot, shape: Shape) -> tuple[Snapshot, int]:
    """The snapshot with this shape, and the index of the shape in it."""
    if shape in snapshot.shapes:
        return snapshot, snapshot.shapes.index(shape)
    return replace(snapshot, shapes=(*snapshot.shapes, shape)), len(snapshot.shapes)


def with_organization(snapshot: Snapshot, organization_id: int | None) -> tuple[Snapshot, int]:
    """The snapshot with this organization, and its index in `quotas`; -1 without quotas.

    An organization without a quota has no guarantee and no limit.
    """
    if organization_id is None or not snapshot.quotas:
        return snapshot, -1
    for index, quota in enumerate(snapshot.quotas):
        if quota.organization_id == organization_id:
            return snapshot, index
    added = Quota(organization_id, Resources())
    return replace(snapshot, quotas=(*snapshot.quotas, added)), len(snapshot.quotas)
