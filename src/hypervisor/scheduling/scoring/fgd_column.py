"""The FGD scores of many requests on one node, by look-ups instead of arithmetic.

After a placement one node must be scored again for every score class. The score depends on two things: the
set of typical requests that the node's CPU and RAM admit, before and after, and the idle milli-GPU of its
devices in any order. Few combinations of the set before and the idle devices occur. So the score of each
(set after, amount of GPU) is computed once per combination, and a column is a look-up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.scoring.fgd_pairs import FgdPairs
from hypervisor.scheduling.scoring.fgd_tables import FgdTables
from hypervisor.scheduling.scoring.scorer import INFEASIBLE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64

BEYOND_IDLE = 1 << 17
_UNREACHABLE = 1 << 60
_MOST_REMEMBERED = 4096
_MOST_BYTES = 64 << 20
_WORTH_A_TABLE = 3

_Combination = tuple[int, tuple[int, ...]]
"""The pair of the empty request on a node (what its CPU and RAM admit now), and its sorted idle devices."""


class FgdColumn:
    """See `ScoreColumn`.

    Each request is one of `FgdPairs`. An empty request follows the others: its pair is what the node admits
    now.
    """

    def __init__(
        self, capacity: WorkingState, tables: FgdTables, requests: Sequence[Request], thresholds: Int64
    ) -> None:
        self._capacity = capacity
        self._tables = tables
        self._cpu = np.array([*(request.cpu for request in requests), 0], np.int64)
        self._ram = np.array([*(request.ram for request in requests), 0], np.int64)
        amounts = sorted({0, *(request.shape.gpu_milli for request in requests)})
        self._outcomes = FgdPairs(tables, amounts)
        number = {amount: index for index, amount in enumerate(amounts)}
        self._pairs, size = self._pair_table(len(amounts))
        self._base = np.array([*(number[item.shape.gpu_milli] for item in requests), 0], np.int64) * size
        self._by_cpu: dict[tuple[int, int], Int64] = {}
        self._by_ram: dict[int, Int64] = {}
        self._usable: dict[tuple[int, ...], Int64] = {}
        self._cache: dict[_Combination, Int32] = {}
        self._uses: Counter[_Combination | tuple[int, ...]] = Counter()
        self._most_tables = min(_MOST_REMEMBERED, _MOST_BYTES // (12 * len(self._outcomes)))
        self._thresholds = np.append(np.sort(-thresholds), _UNREACHABLE)
        self._one_kind = tables.kinds == 1
        self._scores = (np.arange(1, len(self._thresholds) + 2) * BEYOND_IDLE).astype(np.int32)
        self._scores[-1] = INFEASIBLE

    def at(self, node: int) -> Int32:
        capacity = self._capacity
        cpu, ram = int(capacity.idle_cpu[node]), int(capacity.idle_ram[node])
        if cpu < 0 or ram < 0:
            return np.full(len(self._cpu) - 1, INFEASIBLE, np.int32)
        free = tuple(sorted(capacity.idle_gpu[node].tolist()))
        pairs = self._pairs.take(self._steps_of_cpu(cpu, node) + self._steps_of_ram(ram))
        key = int(pairs[-1]), free
        cached = self._cache.get(key)
        column = self._compute(pairs, key) if cached is None else cached.take(pairs)
        return column[:-1]

    def _pair_table(self, amounts: int) -> tuple[Int64, int]:
        """Flat table (amount, node kind, CPU step, RAM step) -> pair; step 0 means "not enough"."""
        tables = self._tables
        sets = np.full((tables.kinds, tables.wide + 1, tables.deep + 1), tables.count, np.int64)
        sets[:, 1:, 1:] = tables.sets.reshape(tables.kinds, tables.wide, tables.deep)
        pairs = sets.reshape(1, -1) * amounts + np.arange(amounts)[:, None]
        return pairs.reshape(-1), sets.size

    def _steps_of_cpu(self, cpu: int, node: int) -> Int64:
        key = (0 if self._one_kind else int(self._tables.kind[node]), cpu)
        found = self._by_cpu.get(key)
        if found is None:
            steps = _steps(self._tables.cpus, cpu - self._cpu) + key[0] * (self._tables.wide + 1)
            found = self._base + steps * (self._tables.deep + 1)
            if len(self._by_cpu) < _MOST_REMEMBERED:
                self._by_cpu[key] = found
        return found

    def _steps_of_ram(self, ram: int) -> Int64:
        found = self._by_ram.get(ram)
        if found is None:
            found = _steps(self._tables.rams, ram - self._ram)
            if len(self._by_ram) < _MOST_REMEMBERED:
                self._by_ram[ram] = found
        return found

    def _compute(self, pairs: Int64, key: _Combination) -> Int32:
        """The scores of these pairs; a combination that recurs gets a table of all pairs."""
        now, free = key
        usable = self._usable.get(free)
        if usable is None and self._is_worth_a_table(free, len(self._usable)):
            usable = self._usable[free] = self._outcomes.usable_after(free)
        if usable is None:
            after = self._outcomes.usable_after(free, pairs)
            return self._scores_of(after, after[-1], free)
        if self._is_worth_a_table(key, len(self._cache)):
            cached = self._cache[key] = self._scores_of(usable, usable[now], free)
            return cached.take(pairs)
        return self._scores_of(usable.take(pairs), usable[now], free)

    def _is_worth_a_table(self, key: _Combination | tuple[int, ...], tables: int) -> bool:
        self._uses[key] += 1
        return self._uses[key] >= _WORTH_A_TABLE and tables < self._most_tables

    def _scores_of(self, usable: Int64, now: np.int64, free: tuple[int, ...]) -> Int32:
        scores: Int32 = self._scores.take(self._thresholds.searchsorted(now - usable))
        scores += sum(free)
        return scores


def _steps(bounds: Int64, left: Int64) -> Int64:
    """1 + the number of bounds within the remaining amount; 0 where that is negative."""
    return np.where(left < 0, 0, bounds.searchsorted(left, "right") + 1)
