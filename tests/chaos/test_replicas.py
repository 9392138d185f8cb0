"""Servers that are killed in turn under load: the short form of `make replicas`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replicas.scenario import Outcome, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_servers_killed_in_turn_lose_and_duplicate_nothing(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    outcome = Outcome(minutes=7 / 60, seed=1)
    play(tmp_path, postgresql_url, outcome, every=4, load=0.4, REDIS_URL=redis_url, LEASE_SECONDS="3")
    assert not outcome.violations
    assert outcome.kills == {"api": 1, "scheduler": 1}
    rest = outcome.at_rest
    assert rest["accepted"] - rest["deleted"] == rest["ended"] + rest["queued"] + rest["running"]
