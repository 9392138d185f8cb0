"""Waiting deployments that no node could take any more after a change of the nodes."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.clusters import repository
from hypervisor.clusters.capacity_table import capacity_table
from hypervisor.clusters.repository import Capacity, Occupant, WaitingRequest
from hypervisor.errors import Conflict
from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.store.database import WriteSession

NAMED = 10
MOST_EXAMINED = 1000
"""Of the waiting deployments that may be stranded, the oldest."""


async def check_stranded(session: WriteSession, cluster_id: int, before: Sequence[Capacity]) -> None:
    """Raises Conflict when the nodes `before` could take a waiting deployment that the present ones cannot.

    The change of the nodes is in this session. A cluster without nodes can take nothing.
    """
    await session.flush()
    waiting = await repository.waiting_without_a_node(session, cluster_id, MOST_EXAMINED)
    if not waiting:
        return
    now = (await repository.capacities_of(session, [cluster_id])).get(cluster_id, ())
    could, can = _Capacities(before), _Capacities(now)
    stranded = [one for one in waiting if could.take(one) and not can.take(one)]
    if stranded:
        raise _needed([one.occupant for one in stranded])


class _Capacities:
    def __init__(self, nodes: Sequence[Capacity]) -> None:
        self._nodes = capacity_table(nodes)
        self._eligibility = Eligibility(self._nodes)
        self._known: dict[tuple[Shape, int], bool] = {}

    def take(self, request: WaitingRequest) -> bool:
        """Whether these nodes could take the request if nothing else ran on them."""
        required = Resources(request.cpu_milli, request.ram_mib, request.gpu_milli)
        key = Shape.of(required, request.placement_limits), request.replicas
        if key not in self._known:
            self._known[key] = infeasibility(self._nodes, self._eligibility, *key) is None
        return self._known[key]


def _needed(stranded: Sequence[Occupant]) -> Conflict:
    named = ", ".join(one.shown for one in stranded[:NAMED])
    more = f" and {len(stranded) - NAMED} more" if len(stranded) > NAMED else ""
    return Conflict(
        "node_needed",
        f"After this change no node of the cluster could run these waiting deployments: {named}{more}. "
        "Cancel or change them first, or use ?force=true: they then wait for another node.",
        extra={"deployments": [one.deployment_id for one in stranded[:100] if not one.is_guest]},
    )
