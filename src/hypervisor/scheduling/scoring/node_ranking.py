"""The best node for a request, from a table of scores that is updated where nodes changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_idle, fits_on_node
from hypervisor.scheduling.capacity.node_groups import NodeGroups
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.scoring.score_classes import score_classes
from hypervisor.scheduling.scoring.scorer import INFEASIBLE, ScoreColumn, Scorer
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int32, Int64, Shape

NO_NODE = -1
_MANY = 16
_WORTH_GROUPS = 8
_MakeRequest = Callable[[int, Shape], Request]


class NodeRanking:
    """One row of scores per score class, made on first use.

    A placement changes one node and so costs one column: the scores of all classes on that node. A query is
    one argmin, whatever the length of the queue.
    """

    def __init__(
        self, capacity: WorkingState, scorer: Scorer, shapes: Sequence[Shape], make: _MakeRequest
    ) -> None:
        self._capacity = capacity
        self._scorer = scorer
        self._class_of, representatives = score_classes(shapes)
        self._exact = representatives == list(shapes)
        self._requests = [make(number, shape) for number, shape in enumerate(representatives)]
        self._scores: Int32 = np.empty((len(representatives), len(capacity.nodes)), np.int32)
        self._filled: list[int] = []
        self._is_filled = bytearray(len(representatives))
        self._log_position = 0
        self._most: tuple[int, ...] | None = None

    def best_node(self, request: Request, without: int | list[int] = NO_NODE) -> int:
        """The best node on which the request fits now, else NO_NODE; ties go to the lower id."""
        if not len(self._capacity.nodes) or self._exceeds_all(request):
            return NO_NODE
        row = self._row(self._class_of[request.index])
        if without == NO_NODE:
            node = int(row.argmin())
            if row[node] >= INFEASIBLE:
                return NO_NODE
            # A representative is never larger than the shapes of its class. So its best node is also theirs,
            # if they fit.
            if self._exact or fits_on_node(self._capacity, request, node):
                return node
        row = row.copy() if self._exact else np.where(fits_idle(self._capacity, request), row, INFEASIBLE)
        if without != NO_NODE:
            row[without] = INFEASIBLE
        node = int(row.argmin())
        return node if row[node] < INFEASIBLE else NO_NODE

    def _exceeds_all(self, request: Request) -> bool:
        """Whether no node has enough of some resource. The result is valid until a node changes."""
        capacity = self._capacity
        if capacity.dirty_log:
            return False
        if self._most is None:
            everything = (
                capacity.idle_cpu,
                capacity.idle_ram,
                capacity.whole_gpus,
                capacity.largest_fraction,
            )
            self._most = tuple(int(amounts.max()) for amounts in everything)
        cpu, ram, full, widest = self._most
        enough = full >= request.device_count if request.whole_devices else widest >= request.milli_per_device
        return cpu < request.cpu or ram < request.ram or not enough

    def _row(self, number: int) -> Int32:
        if not self._is_filled[number]:
            self._fill(number)
            self._is_filled[number] = 1
            self._filled.append(number)
        elif self._log_position < len(self._capacity.dirty_log):
            self._catch_up()
        row: Int32 = self._scores[number]
        return row

    def _catch_up(self) -> None:
        """Score changed nodes again: column by column, or row by row if they are many."""
        touched = self._capacity.dirty_log
        nodes = list(dict.fromkeys(touched[self._log_position :]))
        self._log_position = len(touched)
        if len(nodes) > _MANY * len(self._filled):
            rows = np.array(nodes, np.int64)
            for number in self._filled:
                self._scores[number, rows] = self._scores_on(self._requests[number], rows)
            return
        for node in nodes:
            column = self._column.at(node)
            if self._eligible is not None:
                column[~self._eligible[:, node]] = INFEASIBLE
            self._scores[:, node] = column

    @cached_property
    def _column(self) -> ScoreColumn:
        return self._scorer.column(self._requests)

    @cached_property
    def _eligible(self) -> Bool | None:
        """By class and node; None if every node admits every class."""
        if all(request.eligible_everywhere for request in self._requests):
            return None
        return np.stack([request.eligible for request in self._requests])

    @cached_property
    def _groups(self) -> NodeGroups | None:
        """Groups of nodes that were equal at first; None if groups would not pay off."""
        if len(self._requests) < _WORTH_GROUPS:
            return None
        groups = NodeGroups(self._capacity)
        return groups if 2 * groups.count < len(self._capacity.nodes) else None

    def _fill(self, number: int) -> None:
        """Compute the row of a class: once per group for unchanged nodes, node by node for the others."""
        request, row = self._requests[number], self._scores[number]
        fits = fits_idle(self._capacity, request)
        row[:] = INFEASIBLE
        if not fits.any():
            return
        if self._groups is None:
            fitting = np.flatnonzero(fits)
            row[fitting] = self._scorer.score(request, fitting)
            return
        changed = np.array(list(dict.fromkeys(self._capacity.dirty_log)), np.int64)
        groups, nodes = self._groups.unchanged(changed)
        scores = np.full(self._groups.count, INFEASIBLE)
        scores[groups] = self._scores_on(request, nodes)
        row[:] = scores[self._groups.group_of]
        if len(changed):
            row[changed] = self._scores_on(request, changed)

    def _scores_on(self, request: Request, nodes: Int64) -> Int64:
        scores = self._scorer.score(request, nodes)
        scores[~fits_idle(self._capacity, request, nodes)] = INFEASIBLE
        return scores
