"""Two schedulers, one of them paused for longer than its leases last, also inside a transaction."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, running_rig
from tests.chaos.server import RECOVERY_TIMEOUT, Server
from tests.support.wait import eventually_sync

LEASE_SECONDS = 3
two_schedulers_on = partial(running_rig, schedulers=2, LEASE_SECONDS=str(LEASE_SECONDS))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_paused_holder_is_replaced_and_commits_nothing_afterwards(
    postgresql_url: str, tmp_path: Path
) -> None:
    with two_schedulers_on(tmp_path / "rig", postgresql_url) as rig:
        leader, epoch = _leader(rig)
        leader.signal(signal.SIGSTOP)
        started_at = time.monotonic()
        _run_jobs(rig, 3)
        print(f"taken over and done after {time.monotonic() - started_at:.1f} s")
        successor, later_epoch = _leader(rig)
        assert successor is not leader
        assert later_epoch > epoch
        leader.signal(signal.SIGCONT)
        _run_jobs(rig, 3)
        rig.settle()


def test_a_holder_paused_in_a_transaction_does_not_block_the_others(
    postgresql_url: str, tmp_path: Path
) -> None:
    pause = f"plan_before_commit=pause:{4 * LEASE_SECONDS}@3"
    with two_schedulers_on(tmp_path / "rig", postgresql_url, failpoints=pause) as rig:
        _, epoch = _leader(rig)
        while _leader(rig)[1] == epoch:
            _run_jobs(rig, 1)
        rig.settle()


def _leader(rig: Rig) -> tuple[Server, int]:
    return eventually_sync(rig.leader, within=RECOVERY_TIMEOUT, what="a server holds the lease")


def _run_jobs(rig: Rig, jobs: int) -> None:
    ids = [rig.submit(command=["true"]) for _ in range(jobs)]
    for job in ids:
        assert job is not None
        rig.reaches(job, "SUCCEEDED")
