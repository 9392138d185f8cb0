"""The order of the tests: slow ones first, so that no worker runs them alone at the end.

pytest-xdist would start with the modules that have the most tests, which are the fast ones.
"""

from __future__ import annotations

import pytest

SLOWEST_FIRST = ("chaos", "e2e", "simulation", "contract", "component", "unit")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.nodeid.removeprefix("tests/").split("/")[0]
    return SLOWEST_FIRST.index(folder) if folder in SLOWEST_FIRST else len(SLOWEST_FIRST)
