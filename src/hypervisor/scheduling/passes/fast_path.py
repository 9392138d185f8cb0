"""The fast path for most of the queue: a deployment with one replica that fits idle capacity."""

from __future__ import annotations

from hypervisor.scheduling.passes.devices import idle_devices, pick_devices
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Placement
from hypervisor.scheduling.scoring.node_ranking import NO_NODE


class FastPath:
    """Places deployments in the simple case.

    In that case the cluster has no quotas and no pending gangs, the deployment has no nomination, and the
    head reserves nothing on its best node. The result is the same as without the fast path.
    """

    def __init__(self, state: PassState) -> None:
        self._state = state
        self._applies = not state.snapshot.quotas and not state.queue.any_gangs
        self._shape = state.snapshot.pending.shape
        self._priority = state.snapshot.pending.priority
        self._id = state.snapshot.pending.deployment_id
        self._node_id = state.snapshot.nodes.id

    def is_inadmissible(self, row: int) -> bool:
        """Whether the pending row certainly cannot be admitted; False if that needs the full decision.

        True when it does not fit idle capacity, nothing is releasing, it may evict or override nothing, and
        the queue has a head already.
        """
        state = self._state
        return (
            self._applies
            and state.head_reservation is not None
            and int(self._shape[row]) in state.unplaceable_shapes
            and not state.capacity.has_releasing
            and not state.nominations.any()
            and not state.candidates.any_lower_than(int(self._priority[row]))
        )

    def try_place(self, row: int) -> bool:
        """Place the pending row; False, with nothing changed, if it needs the full decision."""
        state = self._state
        if not self._applies or state.nominations.of_row(row):
            return False
        request = state.request_for(int(self._shape[row]))
        if request.index in state.unplaceable_shapes:
            return False
        node = state.ranking.best_node(request)
        if node == NO_NODE or state.head_on(node) is not None:
            return False
        devices: tuple[int, ...] = ()
        if request.device_count:
            usable = idle_devices(state.capacity, request, node)
            devices = pick_devices(state, request, node, usable)
        state.capacity.place(node, request, devices)
        state.placed[row] = True
        state.placements.append(Placement(int(self._id[row]), int(self._node_id[node]), devices))
        return True
