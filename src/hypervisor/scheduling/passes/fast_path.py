"""The short way for what most of a queue is: a single deployment that fits in what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.scheduling.capacity.feasibility import usable_devices
from hypervisor.scheduling.plan_result import Placement
from hypervisor.scheduling.scoring.node_ranking import NO_NODE

if TYPE_CHECKING:
    from hypervisor.scheduling.passes.pass_state import PassState


class FastPath:
    """Places one deployment after another where nothing complicates it.

    That is where nothing is nominated for it, nobody's hold is on the best node, and the cluster has neither
    quotas nor gangs waiting. The outcome is that of the long way, without asking for each deployment what
    holds for all of them.
    """

    def __init__(self, admission: PassState) -> None:
        self._pass = admission
        self._alone = not admission.snapshot.quotas and not admission.queue.any_gangs
        self._shape = admission.snapshot.pending.shape
        self._priority = admission.snapshot.pending.priority
        self._id = admission.snapshot.pending.deployment_id
        self._node_id = admission.snapshot.nodes.id

    def is_inadmissible(self, row: int) -> bool:
        """Whether nothing could help the pending row; False if only the long way can tell.

        So it is when nothing free will do, nothing is coming, nothing may be evicted or overridden for it,
        and others wait for the head of the queue already.
        """
        admission = self._pass
        return (
            self._alone
            and admission.head_reservation is not None
            and int(self._shape[row]) in admission.unplaceable_shapes
            and not admission.capacity.has_releasing
            and not admission.nominations.any()
            and not admission.candidates.any_lower_than(int(self._priority[row]))
        )

    def try_place(self, row: int) -> bool:
        """Place the pending row; False if the long way has to decide on it, nothing being changed."""
        admission = self._pass
        if not self._alone or admission.nominations.of_row(row):
            return False
        request = admission.request_for(int(self._shape[row]))
        if request.index in admission.unplaceable_shapes:
            return False
        node = admission.ranking.best_node(request)
        if node == NO_NODE or (
            admission.head_reservation is not None and admission.head_reservation.on_node(node) is not None
        ):
            return False
        devices: tuple[int, ...] = ()
        if request.device_count:
            usable = usable_devices(request, admission.capacity.idle_gpu[node].tolist())
            devices = admission.pick_devices(request, node, usable)
        admission.capacity.place(node, request, devices)
        admission.placed[row] = True
        admission.placements.append(Placement(int(self._id[row]), int(self._node_id[node]), devices))
        return True
