"""Stopping the deployments of a node or a cluster; implements `hypervisor.clusters.occupants.Occupants`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select

from hypervisor.deployments.access.locks import lock_in_order, waiting_dependent_ids
from hypervisor.deployments.state.bulk_stop import cancel_outside_dependents, stop_all
from hypervisor.deployments.state.settle import settle_dependents
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Allocation, Attempt, Deployment


class WorkloadDrainer:
    """Writes stop requests in the caller's transaction; the reconciler sends them to the engines."""

    async def lock_on_node(self, session: WriteSession, cluster_id: int, node_id: int) -> None:
        """Lock the deployments that hold capacity on the node and their waiting dependents, then the attempts
        of the former, each in id order.
        """
        on_node = select(Allocation.deployment_id).where(
            Allocation.cluster_id == cluster_id, Allocation.node_id == node_id
        )
        occupants = set(await session.scalars(on_node))
        await lock_in_order(session, occupants | await waiting_dependent_ids(session, occupants))
        await live_attempts(session, occupants)

    async def stop_attempts(
        self,
        session: WriteSession,
        attempt_ids: Collection[int],
        reason: StopReason,
        *,
        sentence: str,
        now: datetime,
        actor: str,
    ) -> None:
        """Request the stop of these attempts and of the other replicas of their deployments.

        An attempt that has ended, or has a stop request already, stays as it is.
        """
        ids, stopped = set(attempt_ids), []
        for chunk in chunks(sorted(ids)):
            deployments = await _lock_deployments(session, chunk)
            for deployment_id, attempts in (await live_attempts(session, deployments)).items():
                if any(attempt.id in ids and attempt.stop_requested_at is None for attempt in attempts):
                    stopped.append(deployment_id)
                    request_stop(
                        session,
                        deployments[deployment_id],
                        attempts,
                        reason,
                        now=now,
                        actor=actor,
                        sentence=sentence,
                    )
        await settle_dependents(session, stopped, now=now, actor=actor)

    async def clear_cluster(
        self, session: WriteSession, cluster_id: int, *, sentence: str, now: datetime, actor: str
    ) -> None:
        """Stop the live deployments of the cluster, and cancel those that wait for it or for one on it."""
        inside = Deployment.cluster_id == cluster_id
        await stop_all(session, inside, now=now, actor=actor, why=sentence)
        await cancel_outside_dependents(session, inside, now=now, actor=actor)
        await session.flush()


async def _lock_deployments(session: WriteSession, attempt_ids: Sequence[int]) -> dict[int, Deployment]:
    """The deployments of these attempts, locked. Everywhere, deployments are locked before attempts."""
    own = select(Attempt.deployment_id).where(Attempt.id.in_(attempt_ids))
    return await lock_in_order(session, set(await session.scalars(own)))
