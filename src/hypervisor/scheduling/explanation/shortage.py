"""What a request lacks on its nearest node, and the reason for that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hypervisor.kernel.resources import MILLI, Resources
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.preemption.victims import EvictionCandidate, choose_victims
from hypervisor.scheduling.scoring.score_classes import score_classes
from hypervisor.scheduling.snapshots.requests import Constraint, Request, constraint_of
from hypervisor.scheduling.snapshots.snapshot import Bool
from hypervisor.scheduling.snapshots.wording import described, gaps, listed

_MOST_NAMED = 3
_HIGHEST_PRIORITY = 1000


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a shape lacks on its nearest node, at any priority.

    `victims` are the organization's own deployments there that would have to be evicted.
    """

    node: int
    missing: Resources
    free: Resources
    victims: tuple[EvictionCandidate, ...]


class ShortageFinder:
    """Finds shortages at the end of a pass. Work that depends on the shape alone is done once per shape."""

    def __init__(self, state: PassState) -> None:
        self._state = state
        self._nearest: dict[int, int] = {}
        self._totals: dict[Constraint, Resources] = {}

    def find(self, request: Request, organization: int) -> Shortage:
        """The shortage of a request on its nearest node."""
        state, capacity, node = self._state, self._state.capacity, self._nearest_node(request)
        whole = request.whole_devices
        free_gpu = (
            int(capacity.whole_gpus[node]) * MILLI if whole else max(0, int(capacity.largest_fraction[node]))
        )
        free = Resources(max(0, int(capacity.idle_cpu[node])), max(0, int(capacity.idle_ram[node])), free_gpu)
        idle = int(capacity.idle_cpu[node]), int(capacity.idle_ram[node]), capacity.idle_gpu[node].tolist()
        owner, evictable = state.snapshot.allocations.organization, state.candidates.evictable
        own = [
            item
            for item in state.candidates.on_node(node)
            if evictable[item.row] and int(owner[item.row]) == organization
        ]
        victims = choose_victims(request, *idle, own) if state.policy.preemption else None
        return Shortage(node, request.shape.resources.shortfall(free), free, tuple(victims or ()))

    def reason(self, request: Request, shortage: Shortage, priority: int) -> Reason:
        """The reason for a deployment of this priority."""
        name, code = self._state.snapshot.nodes.name[shortage.node], self._code(request)
        sentence = f"needs {described(request.shape.resources)}; the nearest node {name} has "
        sentence += listed(gaps(shortage.free, shortage.missing))
        ahead = sum(item.priority >= priority for item in self._state.candidates.on_node(shortage.node))
        if code is ReasonCode.FRAGMENTED:
            sentence += "; all nodes together have enough free capacity, but no single node has it"
        elif ahead:
            verb = "runs" if ahead == 1 else "run"
            sentence += f"; {ahead} of the same or a higher priority {verb} there"
        return Reason(
            code, sentence, shortage.missing, name, self._suggestion(request, shortage, priority, name)
        )

    @cached_property
    def _representatives(self) -> list[int]:
        """Per shape the first shape of its score class, whatever the order of the calls."""
        firsts: dict[int, int] = {}
        class_of, _ = score_classes(self._state.snapshot.shapes)
        return [firsts.setdefault(number, index) for index, number in enumerate(class_of)]

    def _nearest_node(self, request: Request) -> int:
        """The eligible node with the smallest shortfall; one node for all shapes of a score class."""
        first = self._representatives[request.index]
        if first not in self._nearest:
            self._nearest[first] = self._least_distant(self._state.request_for(first))
        return self._nearest[first]

    def _least_distant(self, request: Request) -> int:
        capacity = self._state.capacity
        gpu = capacity.whole_gpus if request.whole_devices else capacity.largest_fraction
        distance = shortfall_distance(request, capacity.idle_cpu, capacity.idle_ram, gpu)
        return int(np.where(request.eligible, distance, np.inf).argmin())

    def _code(self, request: Request) -> ReasonCode:
        """The scarcest resource whose free total does not suffice, else fragmentation."""
        key = constraint_of(request.shape)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = self._free_total(request.eligible)
        if total.gpu_milli < request.shape.gpu_milli:
            return ReasonCode.INSUFFICIENT_GPU
        if total.ram_mib < request.ram:
            return ReasonCode.INSUFFICIENT_RAM
        if total.cpu_milli < request.cpu:
            return ReasonCode.INSUFFICIENT_CPU
        return ReasonCode.FRAGMENTED

    def _free_total(self, eligible: Bool) -> Resources:
        capacity = self._state.capacity
        return Resources(
            int(np.maximum(capacity.idle_cpu, 0)[eligible].sum()),
            int(np.maximum(capacity.idle_ram, 0)[eligible].sum()),
            int(np.maximum(capacity.idle_gpu, 0)[eligible].sum()),
        )

    def _suggestion(self, request: Request, shortage: Shortage, priority: int, name: str) -> str:
        options = [f"free {described(shortage.missing)} on {name}"]
        if _fits_when_lowered(shortage):
            options.append(f"lower the request to {_lowered(shortage)}")
        level = max((victim.priority for victim in shortage.victims), default=-1)
        if level >= priority and level < _HIGHEST_PRIORITY:
            ids_of = self._state.snapshot.allocations.deployment_id
            ids = sorted({int(ids_of[victim.row]) for victim in shortage.victims})
            named = f"{len(ids)} deployments" if len(ids) > _MOST_NAMED else _named(ids)
            options.append(f"raise the priority above {level}: evicting {named} would be enough")
        return ", or ".join(options)


def _named(deployment_ids: list[int]) -> str:
    plural = "s" if len(deployment_ids) > 1 else ""
    return f"deployment{plural} {listed([str(id_) for id_ in deployment_ids])}"


def _fits_when_lowered(shortage: Shortage) -> bool:
    """Whether a part of every short resource is free."""
    free, missing = shortage.free, shortage.missing
    return not (
        (missing.gpu_milli and not free.gpu_milli)
        or (missing.ram_mib and not free.ram_mib)
        or (missing.cpu_milli and not free.cpu_milli)
    )


def _lowered(shortage: Shortage) -> str:
    """The amounts of the short resources that are free."""
    free, missing = shortage.free, shortage.missing
    return described(
        Resources(
            free.cpu_milli if missing.cpu_milli else 0,
            free.ram_mib if missing.ram_mib else 0,
            free.gpu_milli if missing.gpu_milli else 0,
        )
    )
