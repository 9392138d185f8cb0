"""kill -9 at random moments under load. A request without an answer may have happened or not.

CHAOS_ROUNDS says how often (2 in the suite, 20 by `make chaos`), CHAOS_SEED begins another sequence.
"""

from __future__ import annotations

import os
import threading
import time
from random import Random

import pytest

from tests.chaos.rig import Rig, cancelling

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 60 * ROUNDS)]


def test_whatever_was_accepted_is_there_once_after_kills_under_load(rig: Rig) -> None:
    random = Random(SEED)
    for number in range(ROUNDS):
        moment = random.uniform(0.1, 2.0)
        people = [threading.Thread(target=_keep_busy, args=(rig, random.random())) for _ in range(2)]
        for one in people:
            one.start()
        time.sleep(moment)
        rig.server.kill()
        for one in people:
            one.join()
        rig.check()
        print(f"seed {SEED}, round {number + 1}: killed after {moment:.2f} s")
        rig.expire_leases()
        rig.server.start()
    rig.settle()
    for name, id_ in rig.ids.items():
        seen = rig.seen(id_)
        assert seen["status"] in ("SUCCEEDED", "STOPPED", "CANCELLED", "RUNNING"), (name, seen["status"])
    print(f"{ROUNDS} kills under load: {rig.tally()}")


def _keep_busy(rig: Rig, seed: float) -> None:
    """Ask for one thing after another until the server is dead."""
    random = Random(seed)
    while rig.server.is_alive:
        made = rig.submit(
            command=["sleep", str(random.choice((0, 0.05, 0.5)))],
            priority=random.choice(("LOW", "HIGH")),
            cluster_id=random.choice((rig.cluster, rig.small)),
        )
        if made is not None and random.random() < 0.3:
            rig.ask_in_vain(cancelling(made))
