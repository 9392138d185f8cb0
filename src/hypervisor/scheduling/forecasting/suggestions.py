"""What would let a waiting deployment start now: changes that were tried with `plan()`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from hypervisor.kernel.resources import MILLI, WHOLE_GPU, Resources
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.forecasting.forecast import (
    ForecastOutcome,
    WhatIfRequest,
    WhatIfResult,
    what_if,
    with_request,
)
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64, Shape, Snapshot
from hypervisor.scheduling.snapshots.wording import described

_HIGHEST = 1000
_STARTS = (ForecastOutcome.FITS_NOW, ForecastOutcome.PREEMPTS)
_TRIES = 4


class SuggestionKind(StrEnum):
    LOWER_REQUEST = "lower_request"
    RAISE_PRIORITY = "raise_priority"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of the request, in the API's field names, and the result of the plan with it."""

    kind: SuggestionKind
    sentence: str
    changes: Mapping[str, float]
    then: WhatIfResult


def find_suggestions(snapshot: Snapshot, policy: Policy, request: WhatIfRequest) -> list[Suggestion]:
    """Changes that make the request start at the next pass, the smaller change first.

    A request lowered by at most half counts as a smaller change than a higher priority, which evicts others.
    """
    lowered = _lower_request(snapshot, policy, request)
    raised = _raise_priority(snapshot, policy, request)
    found = [suggestion for suggestion in (lowered, raised) if suggestion is not None]
    if lowered is not None and raised is not None and _kept_share(request.shape, lowered) < 0.5:
        found.reverse()
    return found


def _lower_request(snapshot: Snapshot, policy: Policy, request: WhatIfRequest) -> Suggestion | None:
    """The largest part of the request that starts without evictions."""
    for shape in _smaller_shapes(snapshot, request.shape):
        then = _with(snapshot, policy, replace(request, shape=shape))
        if then.outcome is ForecastOutcome.FITS_NOW:
            requested = request.shape.resources
            changed = _differing(requested, shape.resources)
            sentence = f"request {described(changed)} instead of {described(_same_kinds(requested, changed))}"
            return Suggestion(SuggestionKind.LOWER_REQUEST, sentence, _fields(changed), then)
    return None


def _raise_priority(snapshot: Snapshot, policy: Policy, request: WhatIfRequest) -> Suggestion | None:
    """The lowest priority that starts it, by a binary search over the priorities in the cluster."""
    there = np.concatenate([snapshot.allocations.priority, snapshot.pending.priority])
    levels = [
        int(level) + 1 for level in np.unique(there) if request.priority <= level < _HIGHEST and level >= 0
    ]
    best: Suggestion | None = None
    while levels:
        middle = (len(levels) - 1) // 2 if best is not None else len(levels) - 1
        priority = levels[middle]
        then = _with(snapshot, policy, replace(request, priority=priority))
        if then.outcome in _STARTS:
            best = Suggestion(
                SuggestionKind.RAISE_PRIORITY,
                f"raise the priority to {priority}{_cost(then)}",
                {"priority": priority},
                then,
            )
            levels = levels[:middle]
        elif best is None:
            return None
        else:
            levels = levels[middle + 1 :]
    return best


def _with(snapshot: Snapshot, policy: Policy, request: WhatIfRequest) -> WhatIfResult:
    return what_if(with_request(snapshot, request), policy, request.deployment_id)


def _cost(then: WhatIfResult) -> str:
    count = len({victim.deployment_id for victim in then.victims})
    if not count:
        return ""
    return f": {count} deployment{'s' if count > 1 else ''} of lower priority would be evicted"


def _smaller_shapes(snapshot: Snapshot, shape: Shape) -> Sequence[Shape]:
    """Smaller shapes that fit a node now, the largest parts first; no amount is lowered to zero."""
    state = WorkingState(snapshot)
    eligible = Eligibility(snapshot.nodes).schedulable(shape)
    whole = shape.gpu_milli >= WHOLE_GPU
    free_gpu: Int64 = state.whole_gpus * WHOLE_GPU if whole else state.largest_fraction
    cpu = np.minimum(state.idle_cpu, shape.cpu_milli)
    ram = np.minimum(state.idle_ram, shape.ram_mib)
    gpu = np.minimum(free_gpu, shape.gpu_milli)
    possible = eligible.copy()
    for requested, left in ((shape.cpu_milli, cpu), (shape.ram_mib, ram), (shape.gpu_milli, gpu)):
        if requested:
            possible &= left > 0
    share = _share(shape.cpu_milli, cpu) + _share(shape.ram_mib, ram) + _share(shape.gpu_milli, gpu)
    order = np.argsort(-np.where(possible, share, -1.0), kind="stable")[: int(possible.sum())]
    found = dict.fromkeys(
        replace(shape, cpu_milli=int(cpu[row]), ram_mib=int(ram[row]), gpu_milli=int(gpu[row]))
        for row in order[: _TRIES * 4].tolist()
    )
    return [smaller for smaller in found if smaller != shape][:_TRIES]


def _share(requested: int, left: Int64) -> Float64:
    return left / requested if requested else np.zeros(len(left))


def _kept_share(shape: Shape, lowered: Suggestion) -> float:
    requested = _fields(shape.resources)
    return min(value / requested[name] for name, value in lowered.changes.items())


def _differing(requested: Resources, smaller: Resources) -> Resources:
    return Resources(
        smaller.cpu_milli if smaller.cpu_milli != requested.cpu_milli else 0,
        smaller.ram_mib if smaller.ram_mib != requested.ram_mib else 0,
        smaller.gpu_milli if smaller.gpu_milli != requested.gpu_milli else 0,
    )


def _same_kinds(requested: Resources, changed: Resources) -> Resources:
    return Resources(
        requested.cpu_milli if changed.cpu_milli else 0,
        requested.ram_mib if changed.ram_mib else 0,
        requested.gpu_milli if changed.gpu_milli else 0,
    )


def _fields(amounts: Resources) -> dict[str, float]:
    """The amounts that are not zero, in the API's names and units."""
    named = {
        "required_cpu_cores": amounts.cpu_milli / MILLI,
        "required_ram_gb": amounts.ram_mib / 1024,
        "required_gpu_count": amounts.gpu_milli / WHOLE_GPU,
    }
    return {name: value for name, value in named.items() if value}
