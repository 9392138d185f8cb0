"""What clusters ask of the domain above: to end or move the work that stands in the way of a change."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from hypervisor.lifecycle.conclude import StopReason
from hypervisor.store.database import WriteSession


class Occupants(Protocol):
    """Implemented by `hypervisor.deployments.state.drain`; every call works in the caller's transaction."""

    async def lock_on_node(self, session: WriteSession, cluster_id: int, node_id: int) -> None:
        """Lock the deployments on the node. To be called before the node is locked, as the loops do: with two
        orders, each would wait for the other.
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
        """Ask these live attempts to end; the reason decides whether their deployments come back."""
        ...

    async def clear_cluster(
        self, session: WriteSession, cluster_id: int, *, sentence: str, now: datetime, actor: str
    ) -> None:
        """Cancel what waits for the cluster or for something on it, and stop what lives on it."""
        ...


async def occupants_of(connection: HTTPConnection) -> Occupants:
    """The implementation that the app was given (`app.state.occupants`)."""
    return cast(Occupants, connection.app.state.occupants)


OccupantsDep = Annotated[Occupants, Depends(occupants_of)]
