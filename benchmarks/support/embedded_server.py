"""A server on SQLite with a user and a cluster, and a watch for the state changes of deployments."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.people import registered_client
from tests.support.server import running_server

from hypervisor.client import Client
from hypervisor.client.errors import Unreachable
from hypervisor.client.models import Event

TIMEOUT = 120.0
"""Seconds until a wait fails."""
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "CANCELLED"})


@contextmanager
def embedded_server(runtime: str, cores: int, **settings: str) -> Iterator[tuple[Client, int]]:
    """A server with the default settings.

    Yields a logged-in client and the id of a cluster with `cores` cores.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hv-bench-") as folder,
        running_server(Path(folder) / "server", SCHEDULER_INTERVAL="5", **settings) as server,
        registered_client(server.url) as client,
    ):
        totals = {"runtime": runtime, "total_cpu_cores": cores, "total_ram_gb": 4 * cores}
        yield client, client.clusters.create("bench", totals)["id"]


class StateWatch:
    """Records the time of each state change in an organization, from its event stream."""

    def __init__(self, client: Client) -> None:
        self._times: dict[tuple[int, str], float] = {}
        self._changed = threading.Condition()
        self._client = Client(client.url, tokens=client.tokens)
        self._organization = client.organizations.all()[0]["id"]
        past = client.organizations.events(self._organization)["items"]
        last = past[-1]["id"] if past else 0
        threading.Thread(target=self._follow, args=(last,), daemon=True).start()

    def time_of(self, deployment_id: int, states: Mapping[str, object] | frozenset[str]) -> float:
        """The monotonic time at which the deployment reached one of the states. Raises TimeoutError."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while True:
                times = [
                    self._times[deployment_id, state]
                    for state in states
                    if (deployment_id, state) in self._times
                ]
                if times:
                    return min(times)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"deployment {deployment_id} did not reach {sorted(states)}")

    def _follow(self, last: int) -> None:
        with suppress(Unreachable):  # the server was stopped
            for event in self._client.organizations.follow(self._organization, after=last):
                self._record(event, time.monotonic())

    def _record(self, event: Event, now: float) -> None:
        deployment, state = event["deployment_id"], event["to_state"]
        if deployment is None or state is None:
            return
        with self._changed:
            self._times.setdefault((deployment, state), now)
            self._changed.notify_all()


def percentile(values: list[float], share: float) -> float:
    """The nearest value to the percentile `share` (0 to 1)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def in_milliseconds(values: list[float]) -> dict[str, float]:
    """The p50 and p99 of values in seconds, and their number."""
    return {
        "p50_ms": round(percentile(values, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(values, 0.99) * 1e3, 1),
        "count": len(values),
    }
