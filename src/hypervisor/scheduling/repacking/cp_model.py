"""A packing as a model for CP-SAT, the constraint solver of OR-tools (the extra `optimal`).

The items of a class are interchangeable. So the variables count the items of a class in a bin and on its
devices. One thread, a fixed seed and a limit in the solver's own deterministic time: the same packing and
limit give the same result, with the same version of OR-tools on the same kind of machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar, LinearExpr

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.repacking.cp_layout import CpLayout, ItemClass, at_home
from hypervisor.scheduling.repacking.packing import NO_BIN, HeadGuard, Packing

_SOLVED = (cp_model.OPTIMAL, cp_model.FEASIBLE)
_Terms = list[tuple[IntVar, int]]


class CpModel:
    """For an **emptied** packing: all its items are out. Every item with a home must be placed again."""

    def __init__(self, packing: Packing, classes: Sequence[ItemClass]) -> None:
        self._packing = packing
        self._classes = classes
        self._model = cp_model.CpModel()
        self._count: dict[tuple[int, int], IntVar] = {}
        self._share: dict[tuple[int, int, int], IntVar] = {}
        self._whole: dict[tuple[int, int, bool], IntVar] = {}
        self._stay: dict[int, IntVar] = {}
        self.spent = 0.0
        """The deterministic time spent so far; a unit is about a second."""
        for bin_ in range(len(packing)):
            self._add_bin(bin_)
        for number, item_class in enumerate(classes):
            homes = sum(packing.items[index].home != NO_BIN for index in item_class.items)
            in_all_bins: _Terms = [(one, 1) for (other, _), one in self._count.items() if other == number]
            self._bound(in_all_bins, homes, len(item_class.items))

    def __len__(self) -> int:
        """The number of variables."""
        return len(self._count) + len(self._share) + len(self._whole) + len(self._stay)

    def keep(self, priority: int, least: int) -> None:
        """Require that at least this many items of the priority are placed."""
        self._bound(self._placed(priority), least, len(self._packing.items))

    def place_maximum(self, priority: int, hint: CpLayout, limit: float) -> CpLayout | None:
        """The layout with the most items of this priority, found within `limit`; None if nothing is found."""
        self._model.maximize(_weighted(self._placed(priority)))
        return self._solve(hint, limit, interleaved=True)

    def move_fewest(self, hint: CpLayout, limit: float) -> CpLayout | None:
        """The layout with the most items at home, found within `limit`; None if nothing is found."""
        for number in range(len(self._classes)):
            self._add_stays(number)
        self._model.maximize(_weighted([(one, 1) for one in self._stay.values()]))
        return self._solve(hint, limit, interleaved=False)

    def _placed(self, priority: int) -> _Terms:
        classes = self._classes
        return [(one, 1) for (number, _), one in self._count.items() if classes[number].priority == priority]

    def _add_bin(self, bin_: int) -> None:
        packing = self._packing
        bin_counts: dict[int, IntVar] = {}
        for number, item_class in enumerate(self._classes):
            most = _most(packing, item_class, bin_)
            if most > 0:
                bin_counts[number] = self._count[number, bin_] = self._model.new_int_var(0, most, "")
        requests = [(one, self._classes[number].request) for number, one in bin_counts.items()]
        self._bound([(one, request.cpu) for one, request in requests], 0, packing.cpu[bin_])
        self._bound([(one, request.ram) for one, request in requests], 0, packing.ram[bin_])
        loads = self._add_devices(bin_, bin_counts)
        if bin_ in packing.guards:
            self._add_guard(packing.guards[bin_], bin_counts, loads)

    def _add_devices(self, bin_: int, bin_counts: Mapping[int, IntVar]) -> dict[int, _Terms]:
        """Add the use of each device. Returns the use of each device by guarded items."""
        sharing = {number: one for number, one in bin_counts.items() if _shares(self._classes[number])}
        users = {
            number: one for number, one in bin_counts.items() if self._classes[number].request.whole_devices
        }
        guarded: dict[int, _Terms] = {}
        for device, free in enumerate(self._packing.gpu[bin_]):
            guarded[device], terms = [], []
            for number in sharing:
                each = self._classes[number].request.milli_per_device
                part = self._share[number, bin_, device] = self._model.new_int_var(0, free // each, "")
                terms.append((part, each))
                guarded[device] += [(part, each)] * self._classes[number].guarded
            for is_guarded in (False, True) if users and free == WHOLE_GPU else ():
                taken = self._whole[bin_, device, is_guarded] = self._model.new_bool_var("")
                terms.append((taken, WHOLE_GPU))
                guarded[device] += [(taken, WHOLE_GPU)] * is_guarded
            self._bound(terms, 0, free)
        self._sum_devices(bin_, sharing, users)
        return guarded

    def _sum_devices(self, bin_: int, sharing: Mapping[int, IntVar], users: Mapping[int, IntVar]) -> None:
        """The items on the devices of a bin add up to the items in the bin."""
        devices = range(len(self._packing.gpu[bin_]))
        for number, count in sharing.items():
            self._bound([(count, -1), *((self._share[number, bin_, one], 1) for one in devices)], 0, 0)
        for is_guarded in (False, True) if users else ():
            group_users = {
                number: one for number, one in users.items() if self._classes[number].guarded == is_guarded
            }
            demanded: _Terms = [
                (one, -self._classes[number].request.device_count) for number, one in group_users.items()
            ]
            spots = [(bin_, device, is_guarded) for device in devices]
            taken: _Terms = [(self._whole[spot], 1) for spot in spots if spot in self._whole]
            self._bound([*demanded, *taken], 0, 0)

    def _add_guard(
        self, guard: HeadGuard, bin_counts: Mapping[int, IntVar], loads: Mapping[int, _Terms]
    ) -> None:
        """Limit guarded items so that the head of the queue keeps its capacity, as in `HeadGuard.allows`."""
        requests = [
            (one, self._classes[number].request)
            for number, one in bin_counts.items()
            if self._classes[number].guarded
        ]
        self._bound([(one, request.cpu) for one, request in requests], 0, guard.cpu - guard.least_cpu)
        self._bound([(one, request.ram) for one, request in requests], 0, guard.ram - guard.least_ram)
        head = guard.request
        if not head.device_count or not any(loads.values()):
            return
        if head.whole_devices or head.device_count > 1:
            each, needed = head.milli_per_device, head.device_count - guard.shortfall
        else:
            each, needed = head.milli_per_device - guard.shortfall, 1
        if min(each, needed) <= 0:
            return
        left: _Terms = []
        for device, free in enumerate(guard.gpu):
            most = int(free == WHOLE_GPU) if head.whole_devices else min(free // each, needed)
            if most > 0:
                left.append((self._model.new_int_var(0, most, ""), 1))
                self._bound([(left[-1][0], each), *loads[device]], 0, free)
        self._bound(left, needed, needed * len(left))

    def _add_stays(self, number: int) -> None:
        """Which items of a class stay at home, on the same devices."""
        packing, item_class = self._packing, self._classes[number]
        homes: defaultdict[tuple[int, tuple[int, ...]], _Terms] = defaultdict(list)
        for index in item_class.items:
            item = packing.items[index]
            if item.home == NO_BIN or (number, item.home) not in self._count:
                continue
            stay = self._stay[index] = self._model.new_bool_var("")
            homes[item.home, item.home_devices if _shares(item_class) else ()].append((stay, -1))
            for device in item.home_devices if item_class.request.whole_devices else ():
                taken = self._whole.get((item.home, device, item_class.guarded))
                self._bound([(stay, -1), *([(taken, 1)] if taken is not None else [])], 0, 1)
        for (bin_, devices), stays in homes.items():
            there = self._share[number, bin_, devices[0]] if devices else self._count[number, bin_]
            self._bound([(there, 1), *stays], 0, len(item_class.items))

    def _bound(self, terms: _Terms, least: int, most: int) -> None:
        if terms:
            self._model.add_linear_constraint(_weighted(terms), least, most)

    def _solve(self, hint: CpLayout, limit: float, *, interleaved: bool) -> CpLayout | None:
        """`interleaved` alternates between search strategies: good for more items, not for few moves."""
        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.num_workers, parameters.random_seed = 1, 0
        parameters.interleave_search = interleaved
        parameters.max_deterministic_time = limit
        # The process handles SIGINT itself.
        parameters.catch_sigint_signal = False
        self._hint(hint)
        status = solver.solve(self._model)
        self.spent += solver.deterministic_time
        return self._layout(solver) if status in _SOLVED else None

    def _hint(self, hint: CpLayout) -> None:
        self._model.clear_hints()  # type: ignore[no-untyped-call]
        for counted, number in self._count.items():
            self._model.add_hint(number, hint.counts[counted])
        for shared, number in self._share.items():
            self._model.add_hint(number, hint.shares[shared])
        for taken, number in self._whole.items():
            self._model.add_hint(number, int(taken in hint.whole))
        for index, number in self._stay.items():
            self._model.add_hint(number, int(index in hint.stays))

    def _layout(self, solver: cp_model.CpSolver) -> CpLayout:
        found = CpLayout(
            Counter({key: solver.value(one) for key, one in self._count.items()}),
            Counter({key: solver.value(one) for key, one in self._share.items()}),
            {key for key, one in self._whole.items() if solver.value(one)},
        )
        found.stays = at_home(self._packing, self._classes, found)
        return found


def _most(packing: Packing, item_class: ItemClass, bin_: int) -> int:
    """How many items of the class the empty bin takes at most."""
    if item_class.bins is not None and bin_ not in item_class.bins:
        return 0
    request, gpu, most = item_class.request, packing.gpu[bin_], len(item_class.items)
    for need, free in ((request.cpu, packing.cpu[bin_]), (request.ram, packing.ram[bin_])):
        most = min(most, max(0, free) // need) if need else most
    if request.whole_devices:
        return min(most, gpu.count(WHOLE_GPU) // request.device_count)
    if request.device_count:
        return min(most, sum(left // request.milli_per_device for left in gpu))
    return most


def _shares(item_class: ItemClass) -> bool:
    """Whether its items take a part of one device."""
    return bool(item_class.request.device_count) and not item_class.request.whole_devices


def _weighted(terms: _Terms) -> LinearExpr:
    return LinearExpr.weighted_sum([one for one, _ in terms], [weight for _, weight in terms])
