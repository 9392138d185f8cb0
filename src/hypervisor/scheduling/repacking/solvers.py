"""The registry of solvers that rearrange placements. A new solver is one file and one line in this module.

A solver's module is imported when it is first used, as it may need a package that is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from hypervisor.scheduling.repacking.budget import StepBudget
    from hypervisor.scheduling.repacking.packing import Packing


class SolverSpec(NamedTuple):
    """The module of a solver, the package that it needs, and the solver whose result it starts from."""

    module: str
    needs: str | None = None
    starts_from: str | None = None


SOLVERS: dict[str, SolverSpec] = {
    "search": SolverSpec("hypervisor.scheduling.repacking.local_search"),
    "exact": SolverSpec("hypervisor.scheduling.repacking.exact_solver", "ortools", starts_from="search"),
}
"""By name: at most 32 characters. The first is the default."""


class SolverNotInstalled(Exception):
    """The package of the solver is not installed; the message is one line with the command to install it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"solver {name!r} needs OR-tools, which is not installed: "
            "pip install ortools, or the extra `optimal` of this package"
        )


class Solver(Protocol):
    """A module that repacks. `waiting` are items without a home, in queue order.

    The result depends on the arguments alone; `seed` is the only source of randomness. Every item with a home
    stays placed.
    """

    def repack(
        self, packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]
    ) -> None:
        """Place as many waiting items as possible."""

    def repack_with_few_moves(
        self, packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]
    ) -> None:
        """Place as many waiting items as possible, with as few moves as the solver finds."""


def solver_names() -> tuple[str, ...]:
    """The names of all solvers, the default first."""
    return tuple(SOLVERS)


def solver_stages(name: str) -> list[str]:
    """The solvers in their order, each with the same number of steps. Each starts from the last result."""
    before = SOLVERS[name].starts_from
    return [*(solver_stages(before) if before else ()), name]


def is_installed(name: str) -> bool:
    """Whether the package of the solver is installed; does not load it."""
    needs = SOLVERS[name].needs
    return needs is None or find_spec(needs) is not None


def load_solvers(name: str) -> list[tuple[str, Solver]]:
    """The stages, each with its name, loaded on first use. Raises SolverNotInstalled."""
    return [(stage, _load(stage)) for stage in solver_stages(name)]


def _load(name: str) -> Solver:
    if not is_installed(name):
        raise SolverNotInstalled(name)
    try:
        return cast(Solver, import_module(SOLVERS[name].module))
    except ImportError as error:
        raise SolverNotInstalled(name) from error
