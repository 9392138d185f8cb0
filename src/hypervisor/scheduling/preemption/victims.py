"""Which allocations of one node must go so that a request fits: as few and as unimportant as possible.

The method is kube-scheduler's and Kueue's: take away every candidate, see whether the request fits, then
put them back from the most important down as long as it still does. What stays away is a minimal set:
putting any of them back breaks the fit. On top, the GPU devices are chosen with care: a set of devices is
also tried that is cheapest to clear, and the better outcome is taken.
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
    """What could yield: an allocation (`row` of its table), or a lower-ranked nomination (`row` is -1).

    For a gang it is all that the gang holds on the node (`row` is one of its rows there, a device that
    several replicas share occurs as often); what is lost is that of the whole gang.
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
        """Sorts the most important first: priority, then lost work, then the earlier start, then the id."""
        return (-self.priority, -self.lost_work, self.started_at, self.id)


class VictimRoom:
    """The room on one node for one request, with every candidate taken away at first."""

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
        """Whether the request fits, on the pinned devices where some are pinned."""
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
        self.cpu -= candidate.cpu
        self.ram -= candidate.ram
        for device in candidate.devices:
            self.gpu[device] -= candidate.milli_per_device

    def evict(self, candidate: EvictionCandidate) -> None:
        self.cpu += candidate.cpu
        self.ram += candidate.ram
        for device in candidate.devices:
            self.gpu[device] += candidate.milli_per_device


def choose_victims(
    request: Request, cpu: int, ram: int, gpu: Sequence[int], candidates: Sequence[EvictionCandidate]
) -> list[EvictionCandidate] | None:
    """A minimal set of candidates whose going makes the request fit into the room that is there now.

    `cpu`, `ram`, `gpu` are the room with all candidates in place; candidates come sorted by importance.
    None if it would not fit even with all of them gone; an empty list if it fits as it is.
    """
    room = VictimRoom(request, cpu, ram, gpu)
    for candidate in candidates:
        room.evict(candidate)
    if not room.fits():
        return None
    # One victim alone cannot be bettered: putting back from the top has left the least important that does.
    best = reprieve(VictimRoom(request, room.cpu, room.ram, room.gpu), candidates)
    if len(best) <= 1 or not request.device_count:
        return best
    pinned = _cheapest_devices(request, gpu, room.gpu, candidates)
    if pinned:
        first = reprieve(VictimRoom(request, room.cpu, room.ram, room.gpu, pinned), candidates)
        kept = VictimRoom(request, cpu, ram, gpu)
        for candidate in first:
            kept.evict(candidate)
        best = min(best, reprieve(kept, first), key=cost)
    return best


def reprieve(room: VictimRoom, candidates: Iterable[EvictionCandidate]) -> list[EvictionCandidate]:
    """Return what may return, the first first; those that cannot are the victims."""
    victims = []
    for candidate in candidates:
        room.restore(candidate)
        if not room.fits():
            room.evict(candidate)
            victims.append(candidate)
    return victims


def cost(victims: Sequence[EvictionCandidate]) -> Cost:
    """How bad it is to lose these; the lesser is to be preferred.

    Highest priority among them, then lost work, then the sum of priorities, then their number, then the
    earliest start (the later the better).
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
    request: Request, gpu: Sequence[int], cleared: Sequence[int], candidates: Sequence[EvictionCandidate]
) -> list[int]:
    """Devices that are cheapest to clear, picked one by one; those who leave for one leave for all."""
    possible = set(usable_devices(request, cleared))
    now = list(gpu)
    leaving: set[int] = set()
    pinned: list[int] = []
    while len(pinned) < request.device_count:
        options = [
            (cost(left), device, left)
            for device in sorted(possible.difference(pinned))
            for left in [_clear(request, now[device], device, candidates, leaving)]
        ]
        _, device, left = min(options, key=lambda option: option[:2])
        pinned.append(device)
        for candidate in left:
            leaving.add(id(candidate))
            for index in candidate.devices:
                now[index] += candidate.milli_per_device
    return pinned


def _clear(
    request: Request, free: int, device: int, candidates: Sequence[EvictionCandidate], leaving: set[int]
) -> list[EvictionCandidate]:
    """The least important of those on the device whose going makes it usable."""
    left = []
    need = WHOLE_GPU if request.whole_devices else request.milli_per_device
    for candidate in reversed(candidates):
        if free >= need:
            break
        if device in candidate.devices and id(candidate) not in leaving:
            free += candidate.milli_per_device * candidate.devices.count(device)
            left.append(candidate)
    return left
