"""The address of the API that workloads of each engine get."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor.addresses import source_address
from hypervisor.control.reconciler.report_urls import ReportUrls
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.settings import Settings

PROCESS, DOCKER = EngineRef("process"), EngineRef("docker")
REMOTE = EngineRef("docker", "tcp://127.0.0.1:2375")


def url(engine: EngineRef, **settings: Any) -> str | None:
    return ReportUrls(Settings(_env_file=None, **settings)).of(engine)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8000"),
        ({"host": "::"}, "http://127.0.0.1:8000"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"host": "2001:db8::7"}, "http://[2001:db8::7]:8000"),
        ({"host": "localhost"}, "http://localhost:8000"),
        ({"public_url": ""}, "http://127.0.0.1:8000"),
        ({"public_url": "https://hv.example.com/"}, "https://hv.example.com"),
        ({"public_url": "http://hv.example.com:81/sub/"}, "http://hv.example.com:81/sub"),
        ({"role": "scheduler"}, None),
        ({"role": "scheduler", "public_url": "https://hv.example.com"}, "https://hv.example.com"),
    ],
)
def test_a_process_reaches_the_server_on_this_machine(settings: dict[str, Any], expected: str | None) -> None:
    assert url(PROCESS, **settings) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_container_cannot_reach_a_loopback_address_and_gets_none(host: str) -> None:
    assert url(DOCKER, host=host) is None
    assert url(DOCKER, host=host, public_url="https://hv.example.com") == "https://hv.example.com"


@pytest.mark.parametrize("engine", [DOCKER, REMOTE])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_container_reaches_a_server_on_all_addresses_at_this_machine(engine: EngineRef, host: str) -> None:
    address = source_address()
    assert url(engine, host=host) == (None if address is None else f"http://{address}:8000")


def test_a_container_reaches_the_address_that_the_server_listens_on() -> None:
    assert url(DOCKER, host="192.0.2.7") == "http://192.0.2.7:8000"
    assert url(DOCKER, host="2001:db8::7") == "http://[2001:db8::7]:8000"


def test_a_broken_engine_address_is_no_obstacle() -> None:
    assert url(EngineRef("docker", "tcp://[broken"), host="192.0.2.7") == "http://192.0.2.7:8000"
