"""A real service to measure: its own processes, people, cluster, and a watch on what happens there."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.people import somebody
from tests.support.server import running_server

from hypervisor.client import Client
from hypervisor.client.errors import Unreachable
from hypervisor.client.models import Event

PATIENCE = 120.0
"""Seconds after which something that was waited for is taken for lost."""
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "CANCELLED"})


@contextmanager
def served(runtime: str, cores: int, **settings: str) -> Iterator[tuple[Client, int]]:
    """A server on SQLite with the default settings, a person, and the id of one cluster of `cores` cores."""
    with (
        tempfile.TemporaryDirectory(prefix="hv-bench-") as folder,
        running_server(Path(folder) / "server", SCHEDULER_INTERVAL="5", **settings) as server,
        somebody(server.url) as person,
    ):
        totals = {"runtime": runtime, "total_cpu_cores": cores, "total_ram_gb": 4 * cores}
        yield person, person.clusters.create("bench", totals)["id"]


class Watch:
    """Notes when each deployment of an organization came into a state, as a client of its event stream."""

    def __init__(self, client: Client) -> None:
        self._seen: dict[tuple[int, str], float] = {}
        self._changed = threading.Condition()
        self._client = Client(client.url, tokens=client.tokens)
        self._organization = client.organizations.all()[0]["id"]
        after = client.organizations.events(self._organization)["items"]
        last = after[-1]["id"] if after else 0
        threading.Thread(target=self._follow, args=(last,), daemon=True).start()

    def when(self, deployment_id: int, states: Mapping[str, object] | frozenset[str]) -> float:
        """The monotonic time at which it came into one of the states. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                found = [
                    self._seen[deployment_id, one] for one in states if (deployment_id, one) in self._seen
                ]
                if found:
                    return min(found)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"deployment {deployment_id} never came into {sorted(states)}")

    def _follow(self, last: int) -> None:
        with suppress(Unreachable):  # the server was stopped
            for event in self._client.organizations.follow(self._organization, after=last):
                self._note(event, time.monotonic())

    def _note(self, event: Event, now: float) -> None:
        deployment, state = event["deployment_id"], event["to_state"]
        if deployment is None or state is None:
            return
        with self._changed:
            self._seen.setdefault((deployment, state), now)
            self._changed.notify_all()


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` (0..1) of them lie, the nearest one; seconds in, seconds out."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def in_milliseconds(values: list[float]) -> dict[str, float]:
    """p50, p99 and the number of measurements."""
    return {
        "p50_ms": round(percentile(values, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(values, 0.99) * 1e3, 1),
        "count": len(values),
    }
