"""A bad network to the database, and a database that is gone for a while: nothing healthy is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, rig_on
from tests.chaos.server import RECOVERS_WITHIN
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def network(postgresql_url: str, tmp_path: Path) -> Iterator[tuple[Rig, FaultProxy]]:
    with (
        proxied(postgresql_url) as (proxy, url),
        rig_on(tmp_path / "rig", postgresql_url, through=url, LEASE_SECONDS="3") as rig,
    ):
        yield rig, proxy


def test_nothing_is_lost_or_killed_over_a_bad_network(network: tuple[Rig, FaultProxy]) -> None:
    rig, proxy = network
    spoils: dict[str, Callable[[], None]] = {
        "slow": lambda: proxy.slow_down(0.05),
        "cut": proxy.cut,
        "silent": proxy.go_silent,
        "stopped": proxy.refuse,
    }
    for name, spoil in spoils.items():
        before = rig.submit(command=["true"])
        spoil()
        lost = threading.Thread(target=rig.submit, kwargs={"command": ["true"]})
        lost.start()
        if name in ("silent", "stopped"):
            eventually_sync(lambda: not rig.server.answers(), within=RECOVERS_WITHIN)
        proxy.heal()
        lost.join(RECOVERS_WITHIN)
        began = time.monotonic()
        after = eventually_sync(lambda: rig.submit(command=["true"]), within=RECOVERS_WITHIN, every=0.2)
        rig.reaches(after, "SUCCEEDED")
        print(f"{name}: back after {time.monotonic() - began:.1f} s")
        assert rig.server.is_alive
        assert before is not None
        rig.settle()
