"""Which ways there are to repack, by the names that policies give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from hypervisor.scheduling.policy import SolverName
from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import Packing

_STAGES: Mapping[SolverName, Sequence[SolverName]] = {"search": ("search",), "exact": ("search", "exact")}
_MODULES = {
    "search": "hypervisor.scheduling.repacking.local_search",
    "exact": "hypervisor.scheduling.repacking.exact_solver",
}
_NEEDS = {"exact": "ortools"}


class SolverNotInstalled(Exception):
    """What the packer needs is not installed; the message is one line that says what to do."""

    def __init__(self, name: SolverName) -> None:
        super().__init__(
            f"packer {name!r} needs OR-tools, which is not installed here: "
            "pip install 'mlops-hypervisor[optimal]'"
        )


class Solver(Protocol):
    """A module that repacks. `waiting` are items without a home, in the order of the queue; nothing is random
    but by `seed`, and whoever has a home keeps a place.
    """

    def repack(
        self, packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]
    ) -> None:
        """Place as much as possible of what waits."""

    def repack_with_few_moves(
        self, packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]
    ) -> None:
        """The same, with as few as can be found away from home in the end."""


def solver_stages(name: SolverName) -> Sequence[SolverName]:
    """Who goes on where the one before has ended, each with as many steps."""
    return _STAGES[name]


def is_installed(name: SolverName) -> bool:
    """Whether the packer can be had here; costs next to nothing."""
    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None


def load_solvers(name: SolverName) -> list[tuple[SolverName, Solver]]:
    """The stages, each by its name, loaded when they are first asked for. Raises PackerMissing."""
    return [(stage, _load(stage)) for stage in solver_stages(name)]


def _load(name: SolverName) -> Solver:
    if not is_installed(name):
        raise SolverNotInstalled(name)
    try:
        return cast(Solver, import_module(_MODULES[name]))
    except ImportError as error:
        raise SolverNotInstalled(name) from error
