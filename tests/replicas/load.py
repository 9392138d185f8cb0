"""Clients that keep several API servers busy and record what must exist afterwards."""

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

CLIENTS = 3
MOST_SERVICES = 3
"""Maximum running services of each client."""
AGAIN_AFTER = 0.2
"""Seconds before a request without a response is sent again, to the next server."""
LONGEST_WITHOUT_ANSWER = 120.0


class LoadGenerator:
    """Threads that submit, cancel and delete until `stop`.

    A request without a response is sent again under its idempotency key, so that each one gets a response and
    none is executed twice. Every workload appends its instance's name to the file `witness` when it starts.
    """

    def __init__(self, rig: Rig, witness: Path, seed: int, *, every: float) -> None:
        """`every`: average seconds between two requests of one client."""
        self._rig = rig
        self._start_log = witness
        self._every = every
        self._stopping = threading.Event()
        self._numbers = iter(range(1, 10**9))
        self._threads = [
            threading.Thread(target=self._keep_submitting, args=(Random(f"{seed} {number}"),))
            for number in range(CLIENTS)
        ]
        self.repeated = 0
        """Requests that were sent again."""
        self.slowest = 0.0
        """The longest time from the first sending of a request to its response, in seconds."""

    def start(self) -> None:
        for item in self._threads:
            item.start()

    def stop(self) -> None:
        """Finish the requests in progress and stop the threads."""
        self._stopping.set()
        for item in self._threads:
            item.join()

    def started_twice(self) -> list[str]:
        """Instances whose workload was started more than once."""
        names = self._start_log.read_text().split() if self._start_log.exists() else []
        return sorted(name for name, count in Counter(names).items() if count > 1)

    def _keep_submitting(self, random: Random) -> None:
        services: list[int] = []
        while not self._stopping.is_set():
            self._submit_next(random, services)
            self._stopping.wait(random.uniform(0, 2 * self._every))

    def _submit_next(self, random: Random, services: list[int]) -> None:
        kind = random.choices(("job", "service", "whole", "gang", "child"), (14, 1, 1, 1, 1))[0]
        job = self._submit(_bodyof(kind, random, self._rig))
        if job is None:
            return
        if kind == "service":
            services.append(job)
            if len(services) > MOST_SERVICES:
                oldest = services.pop(0)
                self._rig.request_or_ignore(lambda client: client.deployments.cancel(oldest))
        elif random.random() < 0.05:
            self._rig.request_or_ignore(lambda client: client.deployments.cancel(job))
        elif random.random() < 0.02:
            with suppress(ApiError):  # another deployment depends on it
                self._rig.delete(job)

    def _submit(self, fields: dict[str, Any]) -> int | None:
        """Submit until there is a response; the id, or None if the request was refused."""
        name = f"job-{next(self._numbers)}"
        seconds = fields.pop("seconds")
        script = f'echo "$HV_INSTANCE" >> {self._start_log}; exec sleep {seconds}'
        body = {"name": name, "command": ["sh", "-c", script], **fields}
        self._rig.ledger.maybe.add(name)
        started_at = time.monotonic()
        try:
            while (job := self._rig.request(_creation(body, name))) is None:
                assert time.monotonic() - started_at < LONGEST_WITHOUT_ANSWER, f"no response for {name}"
                self.repeated += 1
                time.sleep(AGAIN_AFTER)
        except ApiError:  # its dependency has failed meanwhile
            self._rig.ledger.refused.add(name)
            return None
        finally:
            self._rig.ledger.maybe.discard(name)
        self.slowest = max(self.slowest, time.monotonic() - started_at)
        self._rig.ledger.accepted[name] = self._rig.ids[name] = job["id"]
        return int(job["id"])


def _creation(body: dict[str, Any], key: str) -> Any:
    def create(client: Client) -> Any:
        return client.deployments.create(body, idempotency_key=key)

    return create


def _bodyof(kind: str, random: Random, rig: Rig) -> dict[str, Any]:
    """The fields of a request, and the run time of the workload in `seconds`."""
    body: dict[str, Any] = {
        "kind": "job",
        "cluster_id": rig.cluster,
        "required_cpu_cores": 0.25,
        "required_ram_gb": 0.1,
        "priority": random.choice(("LOW", "MEDIUM", "HIGH")),
        "seconds": random.choice((0, 0.1, 0.5, 1)),
    }
    if kind == "service":
        return {**body, "kind": "service", "seconds": 100_000, "priority": "LOW"}
    if kind == "whole":
        return {**body, "cluster_id": rig.small, "required_cpu_cores": 1}
    if kind == "gang":
        return {**body, "replicas": 2}
    if kind == "child" and rig.ids:
        parent = random.choice(list(rig.ids.values()))
        return {**body, "depends_on": [{"deployment": parent, "condition": "running"}]}
    return body
