"""Sends every committed change of a queue to the queue index.

It listens to the write sessions. A deployment that enters, leaves or moves is collected at the flush and sent
after the commit. A transaction that is rolled back sends nothing, and its session is not used again. Code
that inserts rows without ORM objects calls `note_new`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

from hypervisor.deployments.queue.key import key_of
from hypervisor.infra.coordination.queue_index import Change, QueueIndex
from hypervisor.lifecycle.states import State
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import Deployment

_KEY = "queue changes"
_MOVES = ("state", "priority", "created_at")


def feed(index: QueueIndex, database: Database) -> None:
    """Send the commits of this process to the index from now on."""
    event.listen(database.write_sessions, "after_flush", _collect)
    event.listen(database.write_sessions, "after_commit", partial(_send, index))


def change_of(deployment: Deployment) -> Change:
    """The state of a row as a change of the index."""
    queued = deployment.state == State.QUEUED.value
    key = key_of(deployment) if queued else None
    return Change(deployment.cluster_id, deployment.id, deployment.generation, key)


def removal(cluster_id: int, deployment_id: int, generation: int) -> Change:
    """The removal of a deployment whose row was deleted at this generation. No change can be newer."""
    return Change(cluster_id, deployment_id, generation + 1, None)


def note_new(session: WriteSession, inserted: Iterable[Deployment]) -> None:
    """Collect deployments that were inserted as rows, without ORM objects."""
    _changes_in(session.sync_session).update(
        {one.id: change_of(one) for one in inserted if one.state == State.QUEUED.value}
    )


def _changes_in(session: Session) -> dict[int, Change]:
    changes: dict[int, Change] = session.info.setdefault(_KEY, {})
    return changes


def _collect(session: Session, _: Any) -> None:
    changes = _changes_in(session)
    for one in session.new:
        if isinstance(one, Deployment) and one.state == State.QUEUED.value:
            changes[one.id] = change_of(one)
    for one in session.dirty:
        if isinstance(one, Deployment) and _has_moved(one):
            changes[one.id] = change_of(one)
    for one in session.deleted:
        if isinstance(one, Deployment):
            changes[one.id] = removal(one.cluster_id, one.id, one.generation)


def _has_moved(deployment: Deployment) -> bool:
    """Whether it is or was in the queue, and a column of its key or its state has changed."""
    histories = {name: get_history(deployment, name, PASSIVE_NO_INITIALIZE) for name in _MOVES}
    if not any(history.has_changes() for history in histories.values()):
        return False
    return State.QUEUED.value in (deployment.state, *(histories["state"].deleted or ()))


def _send(index: QueueIndex, session: Session) -> None:
    changes = session.info.pop(_KEY, None)
    if changes:
        index.note(changes.values())
