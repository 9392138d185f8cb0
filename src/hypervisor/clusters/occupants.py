"""The protocol by which clusters stop or move work that prevents a change."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from hypervisor.lifecycle.conclude import StopReason
from hypervisor.store.database import WriteSession


class Occupants(Protocol):
    """Implemented by `hypervisor.deployments.state.drain`. Every call uses the caller's transaction."""

    async def lock_on_node(self, session: WriteSession, cluster_id: int, node_id: int) -> None:
        """Lock the deployments on the node.

        Call it before locking the node, in the order of the loops: another order would deadlock with them.
        """
        ...

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
        """Stop these live attempts. The reason decides whether their deployments are queued again."""
        ...

    async def clear_cluster(
        self, session: WriteSession, cluster_id: int, *, sentence: str, now: datetime, actor: str
    ) -> None:
        """Cancel deployments that wait for the cluster or its work, and stop the live ones."""
        ...


async def occupants_of(connection: HTTPConnection) -> Occupants:
    """The implementation in `app.state.occupants`."""
    return cast(Occupants, connection.app.state.occupants)


OccupantsDep = Annotated[Occupants, Depends(occupants_of)]
