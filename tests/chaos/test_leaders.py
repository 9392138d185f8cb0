"""Two schedulers: one stands still for twice the length of its lease, also inside a transaction."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, rig_on
from tests.chaos.server import RECOVERS_WITHIN, Server
from tests.support.wait import eventually_sync

LEASE_SECONDS = 3
two_schedulers_on = partial(rig_on, schedulers=2, LEASE_SECONDS=str(LEASE_SECONDS))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_leader_that_is_stopped_is_replaced_and_commits_nothing_afterwards(
    postgresql_url: str, tmp_path: Path
) -> None:
    with two_schedulers_on(tmp_path / "rig", postgresql_url) as rig:
        leader, epoch = _leader(rig)
        leader.signal(signal.SIGSTOP)
        began = time.monotonic()
        _work_is_done(rig, 3)
        print(f"taken over and done after {time.monotonic() - began:.1f} s")
        successor, later = _leader(rig)
        assert successor is not leader
        assert later > epoch
        leader.signal(signal.SIGCONT)
        _work_is_done(rig, 3)
        rig.settle()


def test_a_leader_that_stands_still_in_its_transaction_holds_nobody_up(
    postgresql_url: str, tmp_path: Path
) -> None:
    pause = f"plan_before_commit=pause:{4 * LEASE_SECONDS}@3"
    with two_schedulers_on(tmp_path / "rig", postgresql_url, failpoints=pause) as rig:
        _, epoch = _leader(rig)
        while _leader(rig)[1] == epoch:
            _work_is_done(rig, 1)
        rig.settle()


def _leader(rig: Rig) -> tuple[Server, int]:
    return eventually_sync(rig.leader, within=RECOVERS_WITHIN, what="somebody leads")


def _work_is_done(rig: Rig, jobs: int) -> None:
    made = [rig.submit(command=["true"]) for _ in range(jobs)]
    for job in made:
        assert job is not None
        rig.reaches(job, "SUCCEEDED")
