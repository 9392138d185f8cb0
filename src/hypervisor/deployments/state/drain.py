"""What clusters may ask of the work on them; implements `hypervisor.clusters.occupants.Occupants`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select

from hypervisor.deployments.state.bulk_stop import cancel_outside_dependents, stop_all
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Allocation, Attempt, Deployment


class WorkloadDrainer:
    """Ends and moves deployments in the caller's transaction; what it asks for, the reconciler passes on."""

    async def lock_on_node(self, session: WriteSession, cluster_id: int, node_id: int) -> None:
        """Lock the deployments that hold capacity on the node, and then their attempts; in id order."""
        here = select(Allocation.attempt_id).where(
            Allocation.cluster_id == cluster_id, Allocation.node_id == node_id
        )
        for chunk in chunks(sorted(await session.scalars(here))):
            await live_attempts(session, await _lock_deployments(session, chunk))

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
        """Ask these attempts to end, with the other replicas of their deployments.

        One that has been asked already, or has ended, is left alone.
        """
        wanted = set(attempt_ids)
        for chunk in chunks(sorted(wanted)):
            deployments = await _lock_deployments(session, chunk)
            for deployment_id, attempts in (await live_attempts(session, deployments)).items():
                if any(one.id in wanted and one.stop_requested_at is None for one in attempts):
                    request_stop(
                        session,
                        deployments[deployment_id],
                        attempts,
                        reason,
                        now=now,
                        actor=actor,
                        sentence=sentence,
                    )
        await session.flush()

    async def clear_cluster(
        self, session: WriteSession, cluster_id: int, *, sentence: str, now: datetime, actor: str
    ) -> None:
        """Cancel what waits for the cluster or for something on it, and stop what lives on it."""
        inside = Deployment.cluster_id == cluster_id
        await stop_all(session, inside, now=now, actor=actor, why=sentence)
        await cancel_outside_dependents(session, inside, now=now, actor=actor)
        await session.flush()


async def _lock_deployments(session: WriteSession, attempt_ids: Sequence[int]) -> dict[int, Deployment]:
    """The deployments of these attempts, locked before the attempts as everywhere."""
    own = select(Attempt.deployment_id).where(Attempt.id.in_(attempt_ids))
    rows = await session.scalars(
        select(Deployment)
        .where(Deployment.id.in_(own))
        .order_by(Deployment.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}
