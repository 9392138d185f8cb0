"""People who keep several API replicas busy and know afterwards what must be there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from hypervisor.client import Client
from hypervisor.client.errors import ApiError
from tests.chaos.rig import Rig

PEOPLE = 3
MOST_SERVICES = 3
"""So many services of each person run at once."""
AGAIN_AFTER = 0.2
"""Seconds before a request that got no answer is sent again, to the next replica."""
LONGEST_WITHOUT_ANSWER = 120.0


class Crowd:
    """Threads that submit, cancel and delete until told to stop.

    A request that gets no answer is sent again under its idempotency key, so that each one is answered in the
    end and none may happen twice. Every workload writes its instance's name into `witness` when it begins.
    """

    def __init__(self, rig: Rig, witness: Path, seed: int, *, every: float) -> None:
        """`every`: seconds between two requests of one person, on average."""
        self._rig = rig
        self._witness = witness
        self._every = every
        self._over = threading.Event()
        self._numbers = iter(range(1, 10**9))
        self._people = [
            threading.Thread(target=self._keep_asking, args=(Random(f"{seed} {number}"),))
            for number in range(PEOPLE)
        ]
        self.repeated = 0
        """Requests that had to be sent again."""
        self.slowest = 0.0
        """Seconds from the first sending of a request to its answer, at most."""

    def start(self) -> None:
        for one in self._people:
            one.start()

    def stop(self) -> None:
        """Let everybody finish what they ask just now."""
        self._over.set()
        for one in self._people:
            one.join()

    def begun_twice(self) -> list[str]:
        """Instances whose workload was begun more than once, by the witness."""
        names = self._witness.read_text().split() if self._witness.exists() else []
        return sorted(name for name, count in Counter(names).items() if count > 1)

    def _keep_asking(self, random: Random) -> None:
        services: list[int] = []
        while not self._over.is_set():
            self._submit_something(random, services)
            self._over.wait(random.uniform(0, 2 * self._every))

    def _submit_something(self, random: Random, services: list[int]) -> None:
        kind = random.choices(("job", "service", "whole", "gang", "child"), (14, 1, 1, 1, 1))[0]
        made = self._submit(_wanted(kind, random, self._rig))
        if made is None:
            return
        if kind == "service":
            services.append(made)
            if len(services) > MOST_SERVICES:
                gone = services.pop(0)
                self._rig.ask_in_vain(lambda client: client.deployments.cancel(gone))
        elif random.random() < 0.05:
            self._rig.ask_in_vain(lambda client: client.deployments.cancel(made))
        elif random.random() < 0.02:
            with suppress(ApiError):  # somebody depends on it
                self._rig.delete(made)

    def _submit(self, fields: dict[str, Any]) -> int | None:
        """Submit, as often as it takes; its id, None when it was refused."""
        name = f"asked-{next(self._numbers)}"
        seconds = fields.pop("seconds")
        script = f'echo "$HV_INSTANCE" >> {self._witness}; exec sleep {seconds}'
        wanted = {"name": name, "command": ["sh", "-c", script], **fields}
        self._rig.ledger.maybe.add(name)
        began = time.monotonic()
        try:
            while (made := self._rig.ask(_creation(wanted, name))) is None:
                assert time.monotonic() - began < LONGEST_WITHOUT_ANSWER, f"no replica answers {name}"
                self.repeated += 1
                time.sleep(AGAIN_AFTER)
        except ApiError:  # what it depends on has failed meanwhile
            self._rig.ledger.refused.add(name)
            return None
        finally:
            self._rig.ledger.maybe.discard(name)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._rig.ledger.accepted[name] = self._rig.ids[name] = made["id"]
        return int(made["id"])


def _creation(wanted: dict[str, Any], key: str) -> Any:
    def create(client: Client) -> Any:
        return client.deployments.create(wanted, idempotency_key=key)

    return create


def _wanted(kind: str, random: Random, rig: Rig) -> dict[str, Any]:
    """Fields of a request, and the `seconds` that it is to run."""
    wanted: dict[str, Any] = {
        "kind": "job",
        "cluster_id": rig.cluster,
        "required_cpu_cores": 0.25,
        "required_ram_gb": 0.1,
        "priority": random.choice(("LOW", "MEDIUM", "HIGH")),
        "seconds": random.choice((0, 0.1, 0.5, 1)),
    }
    if kind == "service":
        return {**wanted, "kind": "service", "seconds": 100_000, "priority": "LOW"}
    if kind == "whole":
        return {**wanted, "cluster_id": rig.small, "required_cpu_cores": 1}
    if kind == "gang":
        return {**wanted, "replicas": 2}
    if kind == "child" and rig.ids:
        parent = random.choice(list(rig.ids.values()))
        return {**wanted, "depends_on": [{"deployment": parent, "condition": "running"}]}
    return wanted
