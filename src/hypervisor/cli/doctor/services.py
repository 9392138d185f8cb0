"""Whatever else has to answer: the server itself, Redis, engines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from hypervisor import __version__
from hypervisor.cli.doctor.database import NodeEngines, judge_clock
from hypervisor.cli.doctor.finding import Finding, first_line
from hypervisor.infra.coordination.redis_client import open_redis
from hypervisor.infra.coordination.redis_url import normalise_redis_url, printable_redis
from hypervisor.runtimes.docker import DockerRuntime
from hypervisor.runtimes.protocol import RuntimeUnavailable
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file

SERVER, REDIS, ENGINES = "server", "redis", "engines"
ANSWER_SECONDS = 5.0


async def server(settings: Settings) -> Sequence[Finding]:
    """Whether a server answers here, and says that it can work. None running is fine."""
    url = f"http://{settings.reachable_host}:{settings.port}"
    holder = _holder(database_file(settings.database_url))
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=ANSWER_SECONDS) as http:
            ready = await http.get("/readyz")
            version = (await http.get("/")).json().get("version")
    except (httpx2.HTTPError, ValueError, AttributeError) as error:
        if holder is not None:
            told = f"process {holder} has the database, but nothing of ours answers at {url}"
            return [
                Finding(SERVER, "warning", told, "look at its log; it may listen on another HOST or PORT")
            ]
        told = f"none answers at {url} ({first_line(error)})"
        return [Finding(SERVER, "ok", told, "start it with `hypervisor serve`, if it should run here")]
    if ready.status_code != 200:
        return [Finding(SERVER, "problem", f"{url} is not ready: {_told(ready)}", "look at its log")]
    if version != __version__:
        told = f"{url} runs version {version}, and this is {__version__}"
        return [Finding(SERVER, "warning", told, "restart it to finish the upgrade")]
    return [Finding(SERVER, "ok", f"{url} is ready, version {version}")]


async def redis(settings: Settings) -> Sequence[Finding]:
    """Whether Redis answers, where one is used, and what its clock says."""
    if not settings.redis_url:
        return [Finding(REDIS, "ok", "REDIS_URL is not set: not used")]
    shown = printable_redis(settings.redis_url)
    client = open_redis(normalise_redis_url(settings.redis_url), retrying=False)
    try:
        seconds, micros = await client.time()
        memory = await client.info("memory")
    except Exception as error:
        told = f"{shown} does not answer: {first_line(error)}"
        advice = "start it; until then all goes on, only slower"
        return [Finding(REDIS, "problem", told, advice)]
    finally:
        await client.aclose()
    ahead = datetime.fromtimestamp(seconds + micros / 1e6, UTC) - datetime.now(UTC)
    found = [judge_clock(ahead, "Redis's clock"), Finding(REDIS, "ok", f"{shown} answers")]
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        told = f"{shown} throws keys away when it is full ({policy})"
        found.append(Finding(REDIS, "warning", told, "set maxmemory-policy to noeviction"))
    return found


async def engines(settings: Settings, seen: NodeEngines) -> Sequence[Finding]:
    """The default engine and those of nodes. A missing one matters where something uses it."""
    needed = {endpoint for runtime, endpoint in seen.engines if runtime == "docker"}
    found = [await _docker(settings, endpoint, used=True) for endpoint in sorted(needed, key=str)]
    if None not in needed:
        found.append(await _docker(settings, None, used=settings.default_runtime == "docker"))
    return [*found, _processes(settings, seen)]


async def _docker(settings: Settings, endpoint: str | None, *, used: bool) -> Finding:
    runtime = DockerRuntime("doctor", endpoint or settings.docker_host)
    try:
        info = await runtime.probe()
        return Finding(ENGINES, "ok", info.description)
    except RuntimeUnavailable as error:
        told = f"docker: {first_line(error)}"
        if not used:
            return Finding(ENGINES, "ok", f"{told}; nothing uses it")
        advice = "start the engine, let this user into its group, or set DOCKER_HOST; what runs there goes on"
        return Finding(ENGINES, "problem", told, advice)
    finally:
        await runtime.close()


def _processes(settings: Settings, seen: NodeEngines) -> Finding:
    used = settings.default_runtime == "process" or any(runtime == "process" for runtime, _ in seen.engines)
    if hasattr(os, "pidfd_open") and Path("/proc/self/stat").exists():
        return Finding(ENGINES, "ok", "processes of this machine: available, without isolation")
    told = "the process runtime needs Linux with /proc and pidfd"
    return Finding(ENGINES, "problem" if used else "ok", told, "use Docker" if used else "")


def _holder(database: Path | None) -> str | None:
    """The process that has the embedded database, None if none has."""
    lock = Path(f"{database}.lock")
    if database is None or not lock.exists():
        return None
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(32).strip() or "unknown"
    return None


def _told(ready: httpx2.Response) -> str:
    body = ready.json()
    failed = [check["detail"] for check in body.get("checks", ()) if not check.get("ok")]
    return " ".join(failed) or str(body.get("detail", ready.status_code))
