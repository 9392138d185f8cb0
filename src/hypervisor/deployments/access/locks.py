"""Row locks on several deployments, in the order that all transactions use."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from sqlalchemy import BindParameter, bindparam, select

from hypervisor.lifecycle.states import WAITING
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Dependency, Deployment


async def lock_in_order(
    session: WriteSession, exclusive: Collection[int], shared: Collection[int] = ()
) -> dict[int, Deployment]:
    """Lock `exclusive` (`FOR UPDATE`) and the rest of `shared` (`FOR SHARE`), all by id; returns the former.

    Call it before any lock on attempts and nodes. A shared lock keeps the state of a deployment until the
    commit. A row is never locked twice: two transactions that both upgrade a shared lock would deadlock.
    """
    is_shared = dict.fromkeys(shared, True) | dict.fromkeys(exclusive, False)
    locked: dict[int, Deployment] = {}
    for only_shared, ids in groupby(sorted(is_shared), key=is_shared.__getitem__):
        for chunk in chunks(list(ids)):
            if only_shared:
                await session.execute(_SHARED, {"ids": chunk})
            else:
                locked.update((row.id, row) for row in await session.scalars(_EXCLUSIVE, {"ids": chunk}))
    return locked


async def parent_ids(session: WriteSession, deployment_ids: Collection[int]) -> set[int]:
    """The deployments that these depend on."""
    found: set[int] = set()
    for chunk in chunks(sorted(deployment_ids)):
        found.update(await session.scalars(_PARENTS, {"ids": chunk}))
    return found


async def waiting_dependent_ids(session: WriteSession, deployment_ids: Collection[int]) -> set[int]:
    """The blocked and queued deployments that depend on one of these."""
    found: set[int] = set()
    for chunk in chunks(sorted(deployment_ids)):
        found.update(await session.scalars(_WAITING_DEPENDENTS, {"ids": chunk}))
    return found


# Built once: every commit of the scheduler and every batch of observations runs these.
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_EXCLUSIVE = (
    select(Deployment)
    .where(Deployment.id.in_(_IDS))
    .order_by(Deployment.id)
    .with_for_update()
    .execution_options(populate_existing=True)
)
_SHARED = (
    select(Deployment.id).where(Deployment.id.in_(_IDS)).order_by(Deployment.id).with_for_update(read=True)
)
_PARENTS = select(Dependency.depends_on_id).where(Dependency.deployment_id.in_(_IDS))
_WAITING_DEPENDENTS = (
    select(Deployment.id)
    .join(Dependency, Dependency.deployment_id == Deployment.id)
    .where(Dependency.depends_on_id.in_(_IDS), Deployment.state.in_([state.value for state in WAITING]))
)
