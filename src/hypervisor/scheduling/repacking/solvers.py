"""Which ways there are to repack, by the names that policies give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from hypervisor.scheduling.policy import PackerName
from hypervisor.scheduling.repacking.budget import Steps
from hypervisor.scheduling.repacking.packing import Packing

_STAGES: Mapping[PackerName, Sequence[PackerName]] = {"search": ("search",), "exact": ("search", "exact")}
_MODULES = {
    "search": "hypervisor.scheduling.repacking.local_search",
    "exact": "hypervisor.scheduling.repacking.exact_solver",
}
_NEEDS = {"exact": "ortools"}


class PackerMissing(Exception):
    """What the packer needs is not installed; the message is one line that says what to do."""

    def __init__(self, name: PackerName) -> None:
        super().__init__(
            f"packer {name!r} needs OR-tools, which is not installed here: "
            "pip install 'mlops-hypervisor[optimal]'"
        )


class Packer(Protocol):
    """A module that repacks. `waiting` are items without a home, in the order of the queue; nothing is random
    but by `seed`, and whoever has a home keeps a place.
    """

    def repack(self, packing: Packing, waiting: Sequence[int], steps: Steps, seed: Sequence[int]) -> None:
        """Place as much as possible of what waits."""

    def repack_with_few_moves(
        self, packing: Packing, waiting: Sequence[int], steps: Steps, seed: Sequence[int]
    ) -> None:
        """The same, with as few as can be found away from home in the end."""


def stages_of(name: PackerName) -> Sequence[PackerName]:
    """Who goes on where the one before has ended, each with as many steps."""
    return _STAGES[name]


def is_installed(name: PackerName) -> bool:
    """Whether the packer can be had here; costs next to nothing."""
    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None


def packers_of(name: PackerName) -> list[tuple[PackerName, Packer]]:
    """The stages, each by its name, loaded when they are first asked for. Raises PackerMissing."""
    return [(stage, _load(stage)) for stage in stages_of(name)]


def _load(name: PackerName) -> Packer:
    if not is_installed(name):
        raise PackerMissing(name)
    try:
        return cast(Packer, import_module(_MODULES[name]))
    except ImportError as error:
        raise PackerMissing(name) from error
