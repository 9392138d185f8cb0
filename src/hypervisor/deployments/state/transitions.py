"""Every change of a deployment's state: one legal edge, one event row, in the caller's transaction.

Callers hold the deployment's row (`FOR UPDATE`, on SQLite the write lock). No other code assigns `state`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from hypervisor.events.log import EventFields, record_about, record_all
from hypervisor.lifecycle.states import ENDED, State, is_legal
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


class IllegalTransition(AssertionError):
    """A change along an edge that does not exist. It is a defect, and is raised before the commit."""


def move(
    session: WriteSession,
    deployment: Deployment,
    target: State,
    *,
    now: datetime,
    actor: str,
    code: str,
    sentence: str,
    data: Mapping[str, object] | None = None,
    then: State | None = None,
) -> None:
    """Change the state to `target` and write the event.

    `then` is the state after an observed stop, and is given exactly when `target` is STOPPING. A change of
    `then` alone (STOPPING to STOPPING) is an event too. Raises IllegalTransition.
    """
    source = State(deployment.state)
    if not is_legal(source, target) and not (source is target is State.STOPPING):
        raise IllegalTransition(f"deployment {deployment.id}: {source} -> {target}")
    if (target is State.STOPPING) != (then is not None):
        raise IllegalTransition(f"deployment {deployment.id}: {target} with then={then}")
    deployment.state = target.value
    deployment.state_after_stop = then.value if then else None
    deployment.generation += 1
    set_reason(deployment, code, sentence, data)
    _set_times(deployment, source, target, now)
    record_about(
        session,
        deployment,
        at=now,
        actor=actor,
        type="deployment.state",
        from_state=source.value,
        to_state=target.value,
        code=code,
        message=sentence,
        data=data,
    )


async def record_creations(
    session: WriteSession, deployments: Sequence[Deployment], actors: Sequence[str]
) -> None:
    """Write the first event of each new deployment: to its initial state, which the row has already."""
    events = [_creation(deployment, actor) for deployment, actor in zip(deployments, actors, strict=True)]
    await record_all(session, deployments, events)


def _creation(deployment: Deployment, actor: str) -> EventFields:
    return {
        "at": deployment.created_at,
        "actor": actor,
        "type": "deployment.state",
        "to_state": deployment.state,
        "code": "submitted",
        "message": f"submitted; {deployment.reason or 'waits for its turn'}",
    }


def set_reason(
    deployment: Deployment, code: str, sentence: str, data: Mapping[str, object] | None = None
) -> None:
    """Set the reason of the present state. This alone writes no event."""
    deployment.reason_code = code
    deployment.reason = sentence
    deployment.reason_data = dict(data) if data is not None else None


def _set_times(deployment: Deployment, source: State, target: State, now: datetime) -> None:
    if target is State.QUEUED:
        deployment.queued_at = now
    if target is State.STARTING:
        deployment.started_at = None
        deployment.finished_at = None
        deployment.exit_code = None
        deployment.not_before = None
    if target is State.RUNNING:
        deployment.started_at = now
    if target in ENDED:
        deployment.finished_at = now
    if source in ENDED:
        deployment.finished_at = None
        deployment.exit_code = None
        deployment.retries_used = 0
