"""The dependencies of the deployments that a plan starts or nominates, re-checked inside its commit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hypervisor.deployments.access.locks import lock_in_order, parent_ids, waiting_dependent_ids
from hypervisor.deployments.state.dependencies import Parent, load_parents, summarize_dependencies
from hypervisor.deployments.state.settle import settle, settle_dependents
from hypervisor.events.log import SCHEDULER
from hypervisor.lifecycle.states import State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


@dataclass(frozen=True, slots=True)
class Conditions:
    """The dependencies by deployment. The rows of the parents are locked, so their states stay."""

    parents: Mapping[int, Sequence[Parent]]
    victims: Collection[int]
    """The deployments that the plan evicts: the commit would end what they run."""

    def hold(self, deployment_id: int) -> bool:
        """Whether the deployment may start in this commit."""
        parents = self.parents.get(deployment_id, ())
        if any(parent.state is State.RUNNING and parent.id in self.victims for parent in parents):
            return False
        return summarize_dependencies(parents).state is State.QUEUED

    async def settle(
        self,
        session: WriteSession,
        deployments: Mapping[int, Deployment],
        evicted: Collection[int],
        now: datetime,
    ) -> None:
        """Block what lost a condition, by these evictions or before this commit."""
        lost = [
            one for id_, one in deployments.items() if one.state == State.QUEUED.value and not self.hold(id_)
        ]
        await settle(session, lost, now=now, actor=SCHEDULER)
        await settle_dependents(session, evicted, now=now, actor=SCHEDULER)


async def lock_with_conditions(
    session: WriteSession, pending: Collection[int], victims: Collection[int]
) -> tuple[dict[int, Deployment], Conditions]:
    """Lock pending deployments, victims and the dependents of victims; and the parents of the pending ones.

    A transaction that changes a parent has its row locked and settles its dependents. So either that
    transaction waits for this commit, or this commit sees its change.
    """
    parents = await parent_ids(session, pending)
    dependents = await waiting_dependent_ids(session, victims)
    locked = await lock_in_order(session, {*pending, *victims, *dependents}, parents)
    loaded = await load_parents(session, pending) if parents else {}
    return locked, Conditions(loaded, victims)
