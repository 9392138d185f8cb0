"""Which deployment is the blocked head of the queue, and its reservation."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.capacity.replicas import replicas_when_empty
from hypervisor.scheduling.passes.backfill import single_reservation
from hypervisor.scheduling.passes.gang_backfill import gang_reservation
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.queueing.queue import QueueEntry


def reserve_for_head(state: PassState, entry: QueueEntry) -> None:
    """Make this deployment the head, if the empty cluster could run it."""
    row, request = entry.row, entry.request
    admissible = fits_empty_nodes(state.snapshot.nodes, request, request.eligible)
    if not admissible.any() or not _fits_empty_cluster(state, entry):
        return
    is_gang = state.queue.is_gang(row)
    reservation = (gang_reservation if is_gang else single_reservation)(state, entry, admissible)
    reservation.row, reservation.organization = row, state.quotas.organization(row)
    reservation.is_borrower = not state.quotas.is_guaranteed(row)
    state.head_reservation = reservation


def renew_head_reservation(state: PassState) -> None:
    """Find the head again, after the placements of the pass were changed."""
    state.head_reservation = None
    tried: set[int] = set()
    order = state.queue.order
    for rank in np.flatnonzero(~state.placed[order]).tolist():
        row = int(order[rank])
        number = int(state.queue.equivalence_class[row])
        if number in tried or state.nominations.of_row(row) or not state.quotas.over_limit(row).is_zero:
            continue
        tried.add(number)
        reserve_for_head(state, state.entry(row, rank))
        if state.head_reservation is not None:
            return


def _fits_empty_cluster(state: PassState, entry: QueueEntry) -> bool:
    """Whether the empty cluster could take all replicas at once. Always true of a single replica."""
    if not state.queue.is_gang(entry.row):
        return True
    possible = replicas_when_empty(state.snapshot.nodes, entry.request, entry.request.eligible)
    return possible >= state.queue.replicas(entry.row)
