"""kill -9 at random moments under load. A request without a response may have been executed or not.

CHAOS_ROUNDS is the number of kills (2 in the suite, 20 in `make chaos`), CHAOS_SEED selects the sequence.
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


def test_every_accepted_deployment_exists_once_after_kills_under_load(rig: Rig) -> None:
    random = Random(SEED)
    for number in range(ROUNDS):
        delay = random.uniform(0.1, 2.0)
        threads = [threading.Thread(target=_keep_busy, args=(rig, random.random())) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(delay)
        rig.server.kill()
        for thread in threads:
            thread.join()
        rig.check()
        print(f"seed {SEED}, round {number + 1}: killed after {delay:.2f} s")
        rig.expire_leases()
        rig.server.start()
    rig.settle()
    for name, id_ in rig.ids.items():
        deployment = rig.deployment(id_)
        assert deployment["status"] in ("SUCCEEDED", "STOPPED", "CANCELLED", "RUNNING"), (
            name,
            deployment["status"],
        )
    print(f"{ROUNDS} kills under load: {rig.summary()}")


def _keep_busy(rig: Rig, seed: float) -> None:
    """Send one request after another until the server is dead."""
    random = Random(seed)
    while rig.server.is_alive:
        job = rig.submit(
            command=["sleep", str(random.choice((0, 0.05, 0.5)))],
            priority=random.choice(("LOW", "HIGH")),
            cluster_id=random.choice((rig.cluster, rig.small)),
        )
        if job is not None and random.random() < 0.3:
            rig.request_or_ignore(cancelling(job))
