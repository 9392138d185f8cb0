"""A bad network to the database, and an unreachable database: no healthy workload is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, running_rig
from tests.chaos.server import RECOVERY_TIMEOUT
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def network(postgresql_url: str, tmp_path: Path) -> Iterator[tuple[Rig, FaultProxy]]:
    with (
        proxied(postgresql_url) as (proxy, url),
        running_rig(tmp_path / "rig", postgresql_url, through=url, LEASE_SECONDS="3") as rig,
    ):
        yield rig, proxy


def test_nothing_is_lost_or_killed_over_a_bad_network(network: tuple[Rig, FaultProxy]) -> None:
    rig, proxy = network
    faults: dict[str, Callable[[], None]] = {
        "slow": lambda: proxy.slow_down(0.05),
        "cut": proxy.cut,
        "silent": proxy.go_silent,
        "stopped": proxy.refuse,
    }
    for name, inject in faults.items():
        before = rig.submit(command=["true"])
        inject()
        submission = threading.Thread(target=rig.submit, kwargs={"command": ["true"]})
        submission.start()
        if name in ("silent", "stopped"):
            eventually_sync(lambda: not rig.server.answers(), within=RECOVERY_TIMEOUT)
        proxy.heal()
        submission.join(RECOVERY_TIMEOUT)
        started_at = time.monotonic()
        after = eventually_sync(lambda: rig.submit(command=["true"]), within=RECOVERY_TIMEOUT, every=0.2)
        rig.reaches(after, "SUCCEEDED")
        print(f"{name}: back after {time.monotonic() - started_at:.1f} s")
        assert rig.server.is_alive
        assert before is not None
        rig.settle()
