"""The place of a deployment in the queue of its cluster: by priority, then age, then id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, and_, or_

from hypervisor.store.tables import IS_QUEUED, Deployment


class QueuedRow(Protocol):
    """A deployment's row or an answer about it: what its place depends on."""

    @property
    def id(self) -> int: ...
    @property
    def cluster_id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def state(self) -> str: ...


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued deployment stands: the key that the queue of its cluster is sorted by."""

    cluster_id: int
    priority: int
    created_at: datetime
    id: int

    @classmethod
    def of(cls, deployment: QueuedRow) -> QueuePlace:
        return cls(deployment.cluster_id, deployment.priority, deployment.created_at, deployment.id)

    def ahead(self) -> ColumnElement[bool]:
        """The condition for whatever stands before this place."""
        later = or_(
            Deployment.created_at < self.created_at,
            and_(Deployment.created_at == self.created_at, Deployment.id < self.id),
        )
        return and_(
            Deployment.cluster_id == self.cluster_id,
            IS_QUEUED,
            or_(Deployment.priority > self.priority, and_(Deployment.priority == self.priority, later)),
        )

    @property
    def behind(self) -> tuple[datetime, int]:
        """What orders places of the same cluster and priority."""
        return self.created_at, self.id
