"""Builds the running service from the settings; the only module that names concrete adapters."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from types import FrameType

from hypervisor.api.container import Container
from hypervisor.api.readiness import Readiness
from hypervisor.api.state_metrics import StateMetrics
from hypervisor.control.decisions import Retention
from hypervisor.control.housekeeping import Keep
from hypervisor.control.loops import Loops
from hypervisor.control.reporting import Reporting
from hypervisor.events.relay import EventRelay
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.disk import DiskGuard
from hypervisor.infra.heartbeats import Heartbeats
from hypervisor.infra.passwords import Passwords
from hypervisor.infra.ratelimit import RateLimiter, parse_limit
from hypervisor.infra.sealing import Sealer
from hypervisor.infra.secret_key import derive_key, load_secret_key
from hypervisor.infra.telemetry import Telemetry
from hypervisor.infra.tokens import AccessTokens, AttemptTokens
from hypervisor.infra.tracing import Tracing
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.docker import DockerRuntime
from hypervisor.runtimes.process import ProcessRuntime
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.runtimes.simulated import SimulatedRuntime
from hypervisor.settings import Settings
from hypervisor.store.compatibility import ensure_usable
from hypervisor.store.database import Database
from hypervisor.store.file_lock import sole_server
from hypervisor.store.installation import ensure_installation


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, tracing: Tracing | None = None
) -> AsyncIterator[Container]:
    """The service from start to stop. Raises StartupError when it cannot run as configured.

    Workloads outlive it: the next start adopts them.
    """
    tracing = tracing or Tracing()
    clock = clock or SystemClock()
    secret = load_secret_key(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_server(settings.database_url))
        await ensure_usable(settings.database_url)
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        telemetry = Telemetry(Heartbeats(clock), tracer=tracing.tracer)
        container = await _build(settings, clock, secret, database, telemetry)
        stack.push_async_callback(container.runtimes.close)
        container.relay.start()
        stack.push_async_callback(container.relay.stop)
        if settings.role == "all":
            loops = _loops(container)
            loops.start()
            stack.push_async_callback(loops.stop)
        stack.enter_context(_stopping_on_signals(container.stopping))
        yield container


async def _build(
    settings: Settings, clock: Clock, secret: bytes, database: Database, telemetry: Telemetry
) -> Container:
    stopping = asyncio.Event()
    async with database.write() as session:
        install_id = await ensure_installation(session, clock.now())
    return Container(
        settings=settings,
        clock=clock,
        database=database,
        install_id=install_id,
        tokens=AccessTokens(secret, timedelta(minutes=settings.access_token_expire_minutes)),
        attempt_tokens=AttemptTokens(secret),
        sealer=Sealer(secret),
        passwords=Passwords(),
        limiter=RateLimiter(settings.redis_url),
        request_limit=parse_limit(settings.rate_limit),
        wakeup=Wakeup(),
        relay=EventRelay(database, clock),
        runtimes=build_runtimes(settings, install_id, clock),
        telemetry=telemetry,
        state_metrics=_state_metrics(database, clock, telemetry),
        readiness=Readiness(database, telemetry.heartbeats, stopping),
        cookie_key=derive_key(secret, "admin cookies").hex(),
        stopping=stopping,
    )


def _state_metrics(database: Database, clock: Clock, telemetry: Telemetry) -> StateMetrics:
    state = StateMetrics(database, clock)
    telemetry.metrics.registry.register(state)
    return state


def build_runtimes(settings: Settings, install_id: str, clock: Clock) -> RuntimeRegistry:
    """Every runtime that a cluster may name; opened when first used."""
    folder = settings.data_dir.absolute()
    return RuntimeRegistry(
        {
            "docker": lambda endpoint: DockerRuntime(
                install_id,
                endpoint or settings.docker_host,
                pull_policy=settings.docker_pull_policy,
                log_dir=folder / "docker",
            ),
            "process": lambda _: ProcessRuntime(folder / "process", install_id, clock),
            "simulated": lambda _: SimulatedRuntime(folder, install_id, clock),
        }
    )


def _loops(container: Container) -> Loops:
    disk = DiskGuard(container.settings.data_dir.absolute(), container.settings.disk_min_free_mb)
    return Loops(
        container.database,
        container.clock,
        container.wakeup,
        container.runtimes,
        container.sealer,
        Reporting(container.attempt_tokens, container.settings.reachable_url),
        install=container.install_id,
        interval=container.settings.scheduler_interval,
        local_engines=(("process", None), ("simulated", None)),
        keep=_keep(container.settings),
        obstacles={("process", None): disk.obstacle},
    )


def _keep(settings: Settings) -> Keep:
    folder = settings.data_dir.absolute()
    return Keep(
        decisions=Retention(settings.snapshot_retention_hours, settings.snapshot_max_mb * 2**20),
        events=timedelta(days=settings.event_retention_days),
        logs=timedelta(days=settings.log_retention_days),
        log_folders=(folder / "process" / "logs", folder / "docker"),
    )


@contextmanager
def _stopping_on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` with the first SIGINT or SIGTERM, before the server's own handler runs.

    The server waits for open requests before it ends the lifespan, so streams must hear of it earlier.
    """
    if threading.current_thread() is not threading.main_thread():
        try:
            yield
        finally:
            stopping.set()
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, hear)
    try:
        yield
    finally:
        stopping.set()
        for number, handler in previous.items():
            signal.signal(number, handler)
