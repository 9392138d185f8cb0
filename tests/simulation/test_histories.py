"""Many histories of one installation under faults; a failed one is replayed by its seed.

SIMULATION_SEEDS is the number of histories, SIMULATION_FIRST the first seed.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.history import play

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1000"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
PARTS = 4
AT_ONCE = 20

# Virtual time does not depend on the machine; the real time that it takes does.
pytestmark = pytest.mark.timeout(600)


class _Histories:
    """Every fourth history. pytest-xdist distributes whole classes, so that several run in parallel."""

    part: int

    @pytest.mark.slow
    @pytest.mark.parametrize("batch", range(-(-SEEDS // (PARTS * AT_ONCE))))
    def test_each_history_keeps_the_invariants_and_settles(self, batch: int) -> None:
        seeds = range(FIRST + self.part, FIRST + SEEDS, PARTS)[batch * AT_ONCE : (batch + 1) * AT_ONCE]
        for seed in seeds:
            history = play(seed)
            assert not history.violations, "\n".join(
                [f"replay it with: python -m tests.simulation --seed {seed}", *history.violations]
            )


class TestFirstQuarter(_Histories):
    part = 0


class TestSecondQuarter(_Histories):
    part = 1


class TestThirdQuarter(_Histories):
    part = 2


class TestLastQuarter(_Histories):
    part = 3


def test_a_seed_always_plays_the_same_history() -> None:
    """Also in another process with another hash seed."""
    once, again = play(3), play(3)
    assert once.lines == again.lines
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3"]
    elsewhere = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.splitlines()[1:] == once.lines
