"""Tells the queue index of every committed change of the queue, whichever code made it.

It listens to the sessions themselves: what enters, leaves or moves is seen when it is flushed, and told after
the commit; a transaction that is rolled back tells nothing, and its session is not used again. Rows that are
written past the session are named by whoever writes them.
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
    """From now on, note in the index what write transactions of this process commit."""
    event.listen(database.write_sessions, "after_flush", _collect)
    event.listen(database.write_sessions, "after_commit", partial(_tell, index))


def change_of(deployment: Deployment) -> Change:
    """Where the row says that a deployment stands."""
    queued = deployment.state == State.QUEUED.value
    key = key_of(deployment) if queued else None
    return Change(deployment.cluster_id, deployment.id, deployment.generation, key)


def gone(cluster_id: int, deployment_id: int, generation: int) -> Change:
    """A deployment whose row was deleted at this generation: nothing about it can be newer."""
    return Change(cluster_id, deployment_id, generation + 1, None)


def note_new(session: WriteSession, made: Iterable[Deployment]) -> None:
    """Deployments that were written as rows, without the session knowing them."""
    _changes_in(session.sync_session).update(
        {one.id: change_of(one) for one in made if one.state == State.QUEUED.value}
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
            changes[one.id] = gone(one.cluster_id, one.id, one.generation)


def _has_moved(deployment: Deployment) -> bool:
    """Whether it is or was in the queue and something has changed that its place depends on."""
    histories = {name: get_history(deployment, name, PASSIVE_NO_INITIALIZE) for name in _MOVES}
    if not any(history.has_changes() for history in histories.values()):
        return False
    return State.QUEUED.value in (deployment.state, *(histories["state"].deleted or ()))


def _tell(index: QueueIndex, session: Session) -> None:
    changes = session.info.pop(_KEY, None)
    if changes:
        index.note(changes.values())
