"""Checks of the server, Redis and the container engines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import httpx2

from hypervisor import __version__
from hypervisor.cli.doctor.database import NodeEngines, check_clock
from hypervisor.cli.doctor.finding import Finding, first_line
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.coordination.redis_client import open_redis
from hypervisor.infra.coordination.redis_url import normalise_redis_url, printable_redis
from hypervisor.runtimes.kinds import RUNTIMES, RuntimeSetup
from hypervisor.runtimes.process.cgroups import containment, writable_parent
from hypervisor.runtimes.protocol import RuntimeUnavailable
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file

SERVER, REDIS, ENGINES = "server", "redis", "engines"
REQUEST_TIMEOUT_SECONDS = 5.0


async def server(settings: Settings) -> Sequence[Finding]:
    """Whether a server responds on HOST:PORT and is ready. A stopped server is no problem."""
    url = settings.local_url
    owner = _lock_owner(database_file(settings.database_url))
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_SECONDS, trust_env=False) as http:
            ready = await http.get("/readyz")
            version = (await http.get("/")).json().get("version")
    except (httpx2.HTTPError, ValueError, AttributeError) as error:
        if owner is not None:
            detail = f"process {owner} has the database open, but no server responds at {url}"
            return [Finding(SERVER, "warning", detail, "see its log; it may listen on another HOST or PORT")]
        detail = f"no server responds at {url} ({first_line(error)})"
        return [Finding(SERVER, "ok", detail, "if it should run here, start it with `hypervisor serve`")]
    if ready.status_code != HTTPStatus.OK:
        detail = f"{url} is not ready: {_failed_checks(ready)}"
        return [Finding(SERVER, "problem", detail, "see the server's log")]
    if version != __version__:
        detail = f"{url} runs version {version}; this command is version {__version__}"
        return [Finding(SERVER, "warning", detail, "restart the server to finish the upgrade")]
    return [Finding(SERVER, "ok", f"{url} is ready, version {version}")]


async def redis(settings: Settings) -> Sequence[Finding]:
    """Whether Redis responds, its clock and its memory policy. Redis is optional."""
    if not settings.redis_url:
        return [Finding(REDIS, "ok", "not used: REDIS_URL is not set")]
    shown = printable_redis(settings.redis_url)
    client = open_redis(normalise_redis_url(settings.redis_url), retrying=False)
    try:
        seconds, micros = await client.time()
        memory = await client.info("memory")
    except Exception as error:
        detail = f"{shown} does not respond: {first_line(error)}"
        return [Finding(REDIS, "problem", detail, "start it; without Redis the server is slower")]
    finally:
        await client.aclose()
    ahead = datetime.fromtimestamp(seconds + micros / 1e6, UTC) - datetime.now(UTC)
    findings = [check_clock(ahead, "the clock of Redis"), Finding(REDIS, "ok", f"{shown} responds")]
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        detail = f"{shown} drops keys when its memory is full (maxmemory-policy {policy})"
        findings.append(Finding(REDIS, "warning", detail, "set maxmemory-policy to noeviction"))
    return findings


async def engines(settings: Settings, node_engines: NodeEngines) -> Sequence[Finding]:
    """The default engine and the engines of nodes. An unavailable engine is a problem only if it is used."""
    findings = []
    for name in (name for name, kind in RUNTIMES.items() if not kind.local):
        endpoints = {endpoint for runtime, endpoint in node_engines.engines if runtime == name}
        findings += [await _engine(settings, name, one, used=True) for one in sorted(endpoints, key=str)]
        if None not in endpoints:
            findings.append(await _engine(settings, name, None, used=settings.default_runtime == name))
    return [*findings, _processes(settings, node_engines)]


async def _engine(settings: Settings, name: str, endpoint: str | None, *, used: bool) -> Finding:
    kind = RUNTIMES[name]
    runtime = kind.open(RuntimeSetup(settings, "doctor", SystemClock()), endpoint)
    try:
        info = await runtime.probe()
        return Finding(ENGINES, "ok", info.description)
    except RuntimeUnavailable as error:
        detail = f"{name}: {first_line(error)}"
        if not used:
            return Finding(ENGINES, "ok", f"{detail}; no cluster uses it")
        return Finding(ENGINES, "problem", detail, kind.advice)
    finally:
        await runtime.close()


def _processes(settings: Settings, node_engines: NodeEngines) -> Finding:
    used = settings.default_runtime == "process" or any(
        runtime == "process" for runtime, _ in node_engines.engines
    )
    if hasattr(os, "pidfd_open") and Path("/proc/self/stat").exists():
        detail = f"process runtime: available, without isolation, with {containment(writable_parent())}"
        return Finding(ENGINES, "ok", detail)
    detail = "process runtime: not available, it needs Linux with /proc and pidfd"
    return Finding(ENGINES, "problem" if used else "ok", detail, "use Docker" if used else "")


def _lock_owner(database: Path | None) -> str | None:
    """The id of the process that has the embedded database open; None without one."""
    lock = Path(f"{database}.lock")
    if database is None or not lock.exists():
        return None
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(32).strip() or "unknown"
    return None


def _failed_checks(ready: httpx2.Response) -> str:
    body = ready.json()
    failed = [check["detail"] for check in body.get("checks", ()) if not check.get("ok")]
    return " ".join(failed) or str(body.get("detail", ready.status_code))
