"""The victims on one node that make a request fit: few and unimportant ones.

The method is that of kube-scheduler and Kueue. All candidates are evicted; if the request fits then, they are
reprieved one by one, the most important first, as long as the request still fits. The victims that remain are
a minimal set: restoring any of them breaks the fit. The devices that are cheapest to clear are tried as well,
and the cheaper result wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.feasibility import usable_devices
from hypervisor.scheduling.snapshots.requests import Request

Cost = tuple[int, float, int, int, float]
_FREE: Cost = (-1, 0.0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """An allocation (`row` of its table) that may be evicted, or a lower-ranked nomination (`row` is -1).

    For a gang it covers everything of the gang on the node: `row` is one of its rows there, `devices` has a
    device once for each replica on it, and `lost_work` is that of the whole gang.
    """

    row: int
    id: int
    priority: int
    lost_work: float
    started_at: float
    cpu: int
    ram: int
    devices: tuple[int, ...]
    milli_per_device: int

    @property
    def importance(self) -> tuple[int, float, float, int]:
        """Sort key, the most important first: priority, lost work, the earlier start, the id."""
        return (-self.priority, -self.lost_work, self.started_at, self.id)


class EvictionTrial:
    """The capacity of one node for one request, while candidates are evicted and restored."""

    __slots__ = ("_pinned", "_request", "cpu", "gpu", "ram")

    def __init__(
        self, request: Request, cpu: int, ram: int, gpu: Sequence[int], pinned: Iterable[int] = ()
    ) -> None:
        self._request = request
        self._pinned = frozenset(pinned)
        self.cpu = cpu
        self.ram = ram
        self.gpu = list(gpu)

    def fits(self) -> bool:
        """Whether the request fits; on the pinned devices, if there are any."""
        request = self._request
        if self.cpu < request.cpu or self.ram < request.ram:
            return False
        if not request.device_count:
            return True
        if self._pinned:
            return all(self.gpu[device] >= request.milli_per_device for device in self._pinned)
        if request.whole_devices:
            return self.gpu.count(WHOLE_GPU) >= request.device_count
        return max(self.gpu) >= request.milli_per_device

    def restore(self, candidate: EvictionCandidate) -> None:
        """Undo `evict`."""
        self.cpu -= candidate.cpu
        self.ram -= candidate.ram
        for device in candidate.devices:
            self.gpu[device] -= candidate.milli_per_device

    def evict(self, candidate: EvictionCandidate) -> None:
        """Free the capacity of the candidate."""
        self.cpu += candidate.cpu
        self.ram += candidate.ram
        for device in candidate.devices:
            self.gpu[device] += candidate.milli_per_device


def choose_victims(
    request: Request, cpu: int, ram: int, gpu: Sequence[int], candidates: Sequence[EvictionCandidate]
) -> list[EvictionCandidate] | None:
    """A minimal set of candidates that makes the request fit when evicted.

    `cpu`, `ram`, `gpu` are the capacity with all candidates in place; candidates are sorted by importance.
    None if the request does not fit even without all candidates; an empty list if it fits without evictions.
    """
    trial = EvictionTrial(request, cpu, ram, gpu)
    for candidate in candidates:
        trial.evict(candidate)
    if not trial.fits():
        return None
    # A single victim is optimal: reprieving from the top leaves the least important one that suffices.
    best = reprieve(EvictionTrial(request, trial.cpu, trial.ram, trial.gpu), candidates)
    if len(best) <= 1 or not request.device_count:
        return best
    pinned = _cheapest_devices(request, gpu, trial.gpu, candidates)
    if pinned:
        first = reprieve(EvictionTrial(request, trial.cpu, trial.ram, trial.gpu, pinned), candidates)
        kept = EvictionTrial(request, cpu, ram, gpu)
        for candidate in first:
            kept.evict(candidate)
        best = min(best, reprieve(kept, first), key=cost)
    return best


def reprieve(trial: EvictionTrial, candidates: Iterable[EvictionCandidate]) -> list[EvictionCandidate]:
    """Restore the candidates that still fit beside the request, in this order. The others are the victims."""
    victims = []
    for candidate in candidates:
        trial.restore(candidate)
        if not trial.fits():
            trial.evict(candidate)
            victims.append(candidate)
    return victims


def cost(victims: Sequence[EvictionCandidate]) -> Cost:
    """The cost of evicting these candidates; lower is better.

    The highest priority, then the lost work, then the sum of priorities, then the number, then the earliest
    start (a later one is better).
    """
    if not victims:
        return _FREE
    first = victims[0]
    highest, lost, total, start = first.priority, first.lost_work, first.priority, first.started_at
    for victim in victims[1:]:
        highest = max(highest, victim.priority)
        lost += victim.lost_work
        total += victim.priority
        start = min(start, victim.started_at)
    return highest, lost, total, len(victims), -start


def _cheapest_devices(
    request: Request, gpu: Sequence[int], emptied: Sequence[int], candidates: Sequence[EvictionCandidate]
) -> list[int]:
    """The devices that are cheapest to clear, picked one by one. A victim on several devices counts once."""
    possible = set(usable_devices(request, emptied))
    idle_now = list(gpu)
    evicted: set[int] = set()
    pinned: list[int] = []
    while len(pinned) < request.device_count:
        options = [
            (cost(cleared_by), device, cleared_by)
            for device in sorted(possible.difference(pinned))
            for cleared_by in [_victims_on(request, idle_now[device], device, candidates, evicted)]
        ]
        _, device, cleared_by = min(options, key=lambda option: option[:2])
        pinned.append(device)
        for candidate in cleared_by:
            evicted.add(id(candidate))
            for index in candidate.devices:
                idle_now[index] += candidate.milli_per_device
    return pinned


def _victims_on(
    request: Request, free: int, device: int, candidates: Sequence[EvictionCandidate], evicted: set[int]
) -> list[EvictionCandidate]:
    """The least important candidates on the device that make it usable when evicted."""
    cleared_by = []
    need = WHOLE_GPU if request.whole_devices else request.milli_per_device
    for candidate in reversed(candidates):
        if free >= need:
            break
        if device in candidate.devices and id(candidate) not in evicted:
            free += candidate.milli_per_device * candidate.devices.count(device)
            cleared_by.append(candidate)
    return cleared_by
