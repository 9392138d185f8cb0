"""A bad network to Redis, and an unreachable Redis: all responses stay correct, and soon fast again.

Redis is flushed before it is reachable again, so that all keys found afterwards are new.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.rig import Rig, cancelling, running_rig
from tests.chaos.server import RECOVERY_TIMEOUT, Server
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.redis import RedisServer
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOGINS_A_MINUTE = 20
FAULTS = int(os.environ.get("CHAOS_KILLS", "2"))
"""How many faults of the list are injected, from its end; all four in `make chaos`."""


@pytest.fixture
def network(postgresql_url: str, own_redis: RedisServer, tmp_path: Path) -> Iterator[tuple[Rig, FaultProxy]]:
    with (
        proxied(own_redis.url) as (proxy, url),
        running_rig(
            tmp_path / "rig",
            postgresql_url,
            apis=2,
            schedulers=1,
            REDIS_URL=url,
            RATE_LIMIT="100000/minute",
        ) as rig,
    ):
        yield rig, proxy


def test_the_service_continues_over_a_bad_network_to_redis(
    network: tuple[Rig, FaultProxy], own_redis: RedisServer
) -> None:
    rig, proxy = network
    queue = _Queue(rig)
    _wait_for_redis_use(rig, own_redis)
    faults: dict[str, Callable[[], None]] = {
        "slow": lambda: proxy.slow_down(0.4),
        "cut": proxy.cut,
        "silent": proxy.go_silent,
        "stopped": proxy.refuse,
    }
    for name, inject in list(faults.items())[-FAULTS:]:
        inject()
        slowest = queue.grow_and_check()
        job = rig.submit(command=["true"])
        assert job is not None
        rig.reaches(job, "SUCCEEDED")
        if name == "stopped":
            _check_login_limit(rig.server)
        own_redis.call("FLUSHALL")
        proxy.heal()
        started_at = time.monotonic()
        _wait_for_redis_use(rig, own_redis)
        queue.check()
        print(f"{name}: slowest response {slowest:.2f} s, in use after {time.monotonic() - started_at:.1f} s")
    queue.cancel_all()
    rig.settle()


class _Queue:
    """Jobs that wait behind a service on the small cluster, each new one before all others."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        full_node = {"cluster_id": rig.small, "required_cpu_cores": 1, "command": ["sleep", "100000"]}
        self._fields = {**full_node, "kind": "service"}
        service = rig.submit(**self._fields, priority=999, preemptible=False)
        assert service is not None
        self._service = service
        rig.reaches(self._service, "RUNNING")
        self._waiting: list[int] = []
        self.grow_and_check()

    def grow_and_check(self) -> float:
        """Submit one more and check; the slowest response in seconds."""
        started_at = time.monotonic()
        job = self._rig.submit(**self._fields, priority=100 + len(self._waiting))
        elapsed = time.monotonic() - started_at
        assert job is not None
        self._waiting.insert(0, job)
        return max(elapsed, self.check())

    def check(self) -> float:
        """Check the queue positions on every server; the slowest response in seconds."""
        slowest = 0.0
        for _ in self._rig.apis:
            started_at = time.monotonic()
            items = self._rig.request(lambda client: client.deployments.find({"state": "QUEUED"}))
            slowest = max(slowest, time.monotonic() - started_at)
            positions = {
                deployment["id"]: deployment["queue_position"]
                for deployment in items
                if deployment["id"] in self._waiting
            }
            assert positions == {id_: position for position, id_ in enumerate(self._waiting, start=1)}
        return slowest

    def cancel_all(self) -> None:
        for deployment in (*self._waiting, self._service):
            self._rig.request(cancelling(deployment))


def _wait_for_redis_use(rig: Rig, redis: RedisServer) -> None:
    """Send requests until Redis has queue positions and rate limits again."""

    def is_in_use() -> bool:
        rig.request(lambda client: client.deployments.page())
        keys = redis.call("KEYS", "*")
        assert isinstance(keys, list)
        names = [key.decode() for key in keys]
        assert any("queue" in name for name in names), names
        assert any(name.startswith("LIMITS") for name in names), names
        return True

    eventually_sync(is_in_use, within=RECOVERY_TIMEOUT, every=0.2, what="Redis is in use again")


def _check_login_limit(server: Server) -> None:
    """Check that logins are limited without Redis, where each process counts separately."""
    with httpx2.Client(base_url=f"{server.url}/api/v1", timeout=60) as http:
        statuses = [
            http.post("/auth/login", data={"username": f"nobody-{number}", "password": "x" * 10}).status_code
            for number in range(LOGINS_A_MINUTE + 1)
        ]
    assert 429 in statuses, statuses
