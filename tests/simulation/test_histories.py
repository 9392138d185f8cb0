"""Many histories of one installation under faults; a seed that fails is replayed by its number.

SIMULATION_SEEDS says how many (`make simulate` plays 1,000), SIMULATION_FIRST where to begin.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.history import play

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "150"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
AT_ONCE = 10

# Virtual time does not depend on the machine; the real time that it takes does.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_every_history_keeps_the_invariants_and_comes_to_rest(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        history = play(seed)
        assert not history.wrong, "\n".join(
            [f"replay it with: python -m tests.simulation --seed {seed}", *history.wrong]
        )


def test_a_seed_always_plays_the_same_history() -> None:
    """Also in another process, where sets of text have another order."""
    once, again = play(3), play(3)
    assert once.lines == again.lines
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3"]
    elsewhere = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.splitlines()[1:] == once.lines
