"""An installation on the machine's engine, deleted after each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hypervisor.runtimes.docker.runtime import DockerRuntime
from tests.support import docker
from tests.support.docker import Api
from tests.support.own_engine import short_folder
from tests.support.proxy import EngineProxy


@pytest.fixture
def install() -> Iterator[str]:
    if reason := docker.why_no_docker():
        pytest.skip(reason)
    install = f"t{secrets.token_hex(4)}"
    yield install
    docker.clean_up(install)


@pytest.fixture
def api(install: str) -> Api:
    return Api(docker.endpoint())


@pytest.fixture
def engine_folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
async def runtime(install: str, tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(install, pull_policy="never", log_dir=tmp_path / "logs")
    yield runtime
    await runtime.close()


@pytest.fixture
async def proxy(install: str, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    if not docker.endpoint().startswith("unix://"):
        pytest.skip("the proxy stands before a Unix socket only")
    proxy = EngineProxy(tmp_path, docker.endpoint())
    await proxy.mend()
    yield proxy
    await proxy.cut()
