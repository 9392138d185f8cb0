"""The nominations of earlier passes, activated at the start of a pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.transitions import nominate, withdraw_nominations
from hypervisor.scheduling.snapshots.snapshot import Nomination


def claim_nominations(state: PassState) -> None:
    """Activate the snapshot's nominations where they are still feasible, the highest-ranked first."""
    if not state.snapshot.nominations:
        return
    queue, by_deployment = state.queue, dict[int, list[Nomination]]()
    for nomination in state.snapshot.nominations:
        by_deployment.setdefault(nomination.deployment_id, []).append(nomination)
    rows = queue.rows_of(set(by_deployment))
    node_rows = {int(node_id): row for row, node_id in enumerate(state.snapshot.nodes.id)}
    rank_of = np.empty(len(queue.order), np.int64)
    rank_of[queue.order] = np.arange(len(rank_of))
    for row in sorted(rows.values(), key=lambda row: int(rank_of[row])):
        nominations = by_deployment[queue.deployment_id(row)]
        if len(nominations) == queue.replicas(row):
            _claim(state, row, int(rank_of[row]), nominations, node_rows)


def _claim(
    state: PassState, row: int, rank: int, nominations: list[Nomination], node_rows: Mapping[int, int]
) -> None:
    """Activate the nominations of one deployment, for all of its replicas or for none."""
    request = state.request_for(state.queue.shape(row))
    for nomination in sorted(nominations, key=lambda one: one.replica):
        node, devices = node_rows.get(nomination.node_id), nomination.gpu_indices
        if node is None or not state.nominations.is_feasible(request, node, devices):
            withdraw_nominations(state, row)
            return
        nominate(state, row, rank, request, node, devices, nomination.replica, confirmed=False)
