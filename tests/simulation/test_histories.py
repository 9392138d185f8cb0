"""Many histories of one installation under faults; a seed that fails is replayed by its number.

SIMULATION_SEEDS says how many, SIMULATION_FIRST where to begin.
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
    """Every fourth history. pytest-xdist hands out whole classes: several of them can be played at a time."""

    part: int

    @pytest.mark.slow
    @pytest.mark.parametrize("batch", range(-(-SEEDS // (PARTS * AT_ONCE))))
    def test_each_keeps_the_invariants_and_comes_to_rest(self, batch: int) -> None:
        seeds = range(FIRST + self.part, FIRST + SEEDS, PARTS)[batch * AT_ONCE : (batch + 1) * AT_ONCE]
        for seed in seeds:
            history = play(seed)
            assert not history.wrong, "\n".join(
                [f"replay it with: python -m tests.simulation --seed {seed}", *history.wrong]
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
    """Also in another process, where sets of text have another order."""
    once, again = play(3), play(3)
    assert once.lines == again.lines
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3"]
    elsewhere = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.splitlines()[1:] == once.lines
