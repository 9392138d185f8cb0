"""The queue key of a row, and the SQL condition for the rows ahead of a key."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, and_, or_

from hypervisor.kernel.queue_key import QueueKey
from hypervisor.store.tables import IS_QUEUED, Deployment


class QueuedRow(Protocol):
    """The columns that a queue position depends on, of a deployment's row or of a response."""

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


def key_of(deployment: QueuedRow) -> QueueKey:
    """The key by the deployment's own priority."""
    return QueueKey.of(deployment.priority, deployment.created_at, deployment.id)


def rows_ahead(cluster_id: int, key: QueueKey) -> ColumnElement[bool]:
    """The condition for the queued deployments of a cluster whose keys are smaller than `key`."""
    created_at = key.created_at
    older = or_(
        Deployment.created_at < created_at,
        and_(Deployment.created_at == created_at, Deployment.id < key.id),
    )
    return and_(
        Deployment.cluster_id == cluster_id,
        IS_QUEUED,
        or_(Deployment.priority > key.priority, and_(Deployment.priority == key.priority, older)),
    )
