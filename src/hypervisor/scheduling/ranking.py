"""The best node for a request, from rows of scores that are only brought up to date where nodes changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hypervisor.scheduling.classes import score_classes
from hypervisor.scheduling.feasibility import fits_free
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.scoring.base import Scorer
from hypervisor.scheduling.snapshot import Int64, Shape
from hypervisor.scheduling.working import WorkingState

NOWHERE = -1
_NEVER = np.iinfo(np.int64).max
_MakeRequest = Callable[[int, Shape], Request]


class NodeRanking:
    """One row of losses per score class, made on first use.

    A placement changes one node, so a query rescores the few nodes touched since the row's last use: the
    cost of a decision is one short vector operation and one argmin, whatever the length of the queue.
    """

    def __init__(
        self, state: WorkingState, scorer: Scorer, shapes: Sequence[Shape], make: _MakeRequest
    ) -> None:
        self._state = state
        self._scorer = scorer
        self._class_of, representatives = score_classes(shapes)
        self._exact = representatives == list(shapes)
        self._requests: list[Request | None] = [None] * len(representatives)
        self._representatives = representatives
        self._make = make
        self._rows: dict[int, Int64] = {}
        self._seen: dict[int, int] = {}
        self._refreshed = 0

    def best(self, request: Request, without: int = NOWHERE) -> int:
        """The node with the least loss on which the request fits now (ties: the lower id), or NOWHERE."""
        row = self._row(self._class_of[request.index])
        if not self._exact:
            row = np.where(fits_free(self._state, request), row, _NEVER)
        elif without != NOWHERE:
            row = row.copy()
        if not len(row):
            return NOWHERE
        if without != NOWHERE:
            row[without] = _NEVER
        node = int(row.argmin())
        return node if row[node] != _NEVER else NOWHERE

    def losses(self, request: Request) -> Int64:
        """The loss of each node now; of one on which the request does not fit it means nothing."""
        return self._row(self._class_of[request.index])

    def _row(self, number: int) -> Int64:
        touched = self._state.touched
        if self._refreshed < len(touched):
            self._scorer.refresh(_distinct(touched[self._refreshed :]))
            self._refreshed = len(touched)
        row = self._rows.get(number)
        if row is None:
            row = self._rows[number] = self._losses(number, None)
        elif self._seen[number] < len(touched):
            dirty = _distinct(touched[self._seen[number] :])
            row[dirty] = self._losses(number, dirty)
        self._seen[number] = len(touched)
        return row

    def _losses(self, number: int, nodes: Int64 | None) -> Int64:
        request = self._requests[number]
        if request is None:
            request = self._requests[number] = self._make(number, self._representatives[number])
        fits = fits_free(self._state, request, nodes)
        if nodes is not None:
            losses = self._scorer.losses(request, nodes)
            losses[~fits] = _NEVER
            return losses
        losses = np.full(len(fits), _NEVER)
        fitting = np.flatnonzero(fits)
        if len(fitting):
            losses[fitting] = self._scorer.losses(request, fitting)
        return losses


def _distinct(nodes: list[int]) -> Int64:
    return np.array(list(dict.fromkeys(nodes)), np.int64)
