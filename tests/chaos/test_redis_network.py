"""A bad network to Redis, and a Redis that is gone: all is answered and right, and soon quick again.

Redis is flushed before it is back, so that what is found there afterwards was brought there afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.rig import Rig, cancelling, rig_on
from tests.chaos.server import RECOVERS_WITHIN, Server
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.redis import RedisServer
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOGINS_A_MINUTE = 20
FAULTS = int(os.environ.get("CHAOS_KILLS", "2"))
"""The last so many of the list: all four of them by `make chaos`."""


@pytest.fixture
def network(postgresql_url: str, own_redis: RedisServer, tmp_path: Path) -> Iterator[tuple[Rig, FaultProxy]]:
    with (
        proxied(own_redis.url) as (proxy, url),
        rig_on(
            tmp_path / "rig",
            postgresql_url,
            apis=2,
            schedulers=1,
            REDIS_URL=url,
            RATE_LIMIT="100000/minute",
        ) as rig,
    ):
        yield rig, proxy


def test_the_service_goes_on_over_a_bad_network_to_redis(
    network: tuple[Rig, FaultProxy], own_redis: RedisServer
) -> None:
    rig, proxy = network
    line = _Line(rig)
    _is_shared_again(rig, own_redis)
    faults: dict[str, Callable[[], None]] = {
        "slow": lambda: proxy.slow_down(0.4),
        "cut": proxy.cut,
        "silent": proxy.go_silent,
        "stopped": proxy.refuse,
    }
    for name, spoil in list(faults.items())[-FAULTS:]:
        spoil()
        slowest = line.grows_and_stays_right()
        job = rig.submit(command=["true"])
        assert job is not None
        rig.reaches(job, "SUCCEEDED")
        if name == "stopped":
            _logins_are_limited(rig.server)
        own_redis.call("FLUSHALL")
        proxy.heal()
        began = time.monotonic()
        _is_shared_again(rig, own_redis)
        line.is_right()
        print(f"{name}: slowest answer {slowest:.2f} s, shared again after {time.monotonic() - began:.1f} s")
    line.ends()
    rig.settle()


class _Line:
    """Jobs that wait for a service on the small cluster, each new one before all others."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        whole = {"cluster_id": rig.small, "required_cpu_cores": 1, "command": ["sleep", "100000"]}
        self._wanted = {**whole, "kind": "service"}
        ahead = rig.submit(**self._wanted, priority=999, preemptible=False)
        assert ahead is not None
        self._ahead = ahead
        rig.reaches(self._ahead, "RUNNING")
        self._waiting: list[int] = []
        self.grows_and_stays_right()

    def grows_and_stays_right(self) -> float:
        """Seconds that the slowest answer took."""
        began = time.monotonic()
        made = self._rig.submit(**self._wanted, priority=100 + len(self._waiting))
        took = time.monotonic() - began
        assert made is not None
        self._waiting.insert(0, made)
        return max(took, self.is_right())

    def is_right(self) -> float:
        """Whoever is asked knows the right places; seconds that the slowest answer took."""
        slowest = 0.0
        for _ in self._rig.apis:
            began = time.monotonic()
            items = self._rig.ask(lambda client: client.deployments.find({"state": "QUEUED"}))
            slowest = max(slowest, time.monotonic() - began)
            places = {one["id"]: one["queue_position"] for one in items if one["id"] in self._waiting}
            assert places == {id_: place for place, id_ in enumerate(self._waiting, start=1)}
        return slowest

    def ends(self) -> None:
        for one in (*self._waiting, self._ahead):
            self._rig.ask(cancelling(one))


def _is_shared_again(rig: Rig, redis: RedisServer) -> None:
    """Places and limits are in Redis once more; people have to ask for that."""

    def there() -> bool:
        rig.ask(lambda client: client.deployments.page())
        keys = redis.call("KEYS", "*")
        assert isinstance(keys, list)
        names = [key.decode() for key in keys]
        assert any("queue" in name for name in names), names
        assert any(name.startswith("LIMITS") for name in names), names
        return True

    eventually_sync(there, within=RECOVERS_WITHIN, every=0.2, what="Redis is in use again")


def _logins_are_limited(server: Server) -> None:
    """Without Redis each process counts for itself: there is still a limit."""
    with httpx2.Client(base_url=f"{server.url}/api/v1", timeout=60) as http:
        statuses = [
            http.post("/auth/login", data={"username": f"nobody-{number}", "password": "x" * 10}).status_code
            for number in range(LOGINS_A_MINUTE + 1)
        ]
    assert 429 in statuses, statuses
