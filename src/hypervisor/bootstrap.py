"""Builds the running service from the settings."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from types import FrameType

from hypervisor.api.readiness import Readiness
from hypervisor.api.services import AppServices
from hypervisor.api.state_metrics import StateMetrics
from hypervisor.control.leases.manager import LeaseTimes
from hypervisor.control.loops import Loops
from hypervisor.control.maintenance.queue_index_sync import QueueIndexSync, queue_index_syncing
from hypervisor.control.maintenance.retention import RetentionPolicy
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.report_urls import ReportUrls
from hypervisor.control.scheduler.decision_log import DecisionRetention
from hypervisor.deployments.queue.index_updates import feed
from hypervisor.deployments.queue.positions import QueuePositions
from hypervisor.deployments.spec.submit import submit
from hypervisor.errors import StartupError
from hypervisor.events.relay import EventRelay
from hypervisor.identity.principal import read_logins
from hypervisor.infra import failpoints
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.coordination.connect import connect
from hypervisor.infra.coordination.site import site_of
from hypervisor.infra.disk import DiskGuard
from hypervisor.infra.memory import sparing_memory
from hypervisor.infra.observability.heartbeats import Heartbeats
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.observability.tracing import Tracing
from hypervisor.infra.randomness import random_code, system_random
from hypervisor.infra.ratelimit import RateLimiter, parse_limit
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.passwords import Passwords
from hypervisor.infra.security.secret_key import derive_key, load_secret_key
from hypervisor.infra.security.tokens import AccessTokens, AttemptTokens
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.organizations.secret_key_check import check_secret_key
from hypervisor.runtimes.kinds import RUNTIMES, RuntimeSetup, check_default_runtime, local_runtimes
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.settings import Settings
from hypervisor.store.compatibility import ensure_usable
from hypervisor.store.database import Database
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.file_lock import sole_server
from hypervisor.store.installation import ID_ALPHABET, ID_LENGTH, ensure_installation


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, tracing: Tracing | None = None
) -> AsyncIterator[AppServices]:
    """The service from start to stop. Raises StartupError when it cannot run as configured.

    Workloads outlive it: the next start adopts them.
    """
    _check_role(settings)
    check_default_runtime(settings)
    failpoints.arm(os.environ)
    tracing = tracing or Tracing()
    clock = clock or SystemClock()
    secret = load_secret_key(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_server(settings.database_url))
        await stack.enter_async_context(sparing_memory())
        await ensure_usable(settings.database_url)
        database = Database(settings.database_url, system_random())
        stack.push_async_callback(database.close)
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        telemetry = Telemetry(Heartbeats(clock), tracer=tracing.tracer)
        services = await _build(settings, clock, secret, database, telemetry)
        stack.push_async_callback(services.runtimes.close)
        await _start_coordination(stack, services)
        services.relay.start()
        stack.push_async_callback(services.relay.stop)
        if settings.role != "api":
            await _begin_loops(stack, services)
        stack.enter_context(_stopping_on_signals(services.stopping))
        yield services


def _check_role(settings: Settings) -> None:
    if settings.role == "scheduler" and parse_database_url(settings.database_url).is_sqlite:
        raise StartupError(
            "ROLE=scheduler needs PostgreSQL: one process has a SQLite file for itself, use ROLE=all there"
        )


async def _build(
    settings: Settings, clock: Clock, secret: bytes, database: Database, telemetry: Telemetry
) -> AppServices:
    stopping = asyncio.Event()
    encryptor = Encryptor(secret)
    async with database.write() as session:
        await check_secret_key(session, encryptor)
        install_id = await ensure_installation(session, random_code(ID_ALPHABET, ID_LENGTH), clock.now())
    wakeup = Wakeup()
    return AppServices(
        settings=settings,
        clock=clock,
        database=database,
        logins=database.read_group("logins", read_logins),
        submissions=database.write_group("submissions", submit),
        positions=QueuePositions(database, clock),
        install_id=install_id,
        tokens=AccessTokens(secret, timedelta(minutes=settings.access_token_expire_minutes)),
        attempt_tokens=AttemptTokens(secret),
        encryptor=encryptor,
        passwords=Passwords(),
        limiter=RateLimiter(settings.redis_url),
        request_limit=parse_limit(settings.rate_limit),
        wakeup=wakeup,
        coordination=connect(
            wakeup, redis_url=settings.redis_url, postgres=database.address.postgres, install=install_id
        ),
        relay=EventRelay(database, clock, wakeup),
        runtimes=_runtimes(settings, install_id, clock, reading=not _loops_alone(settings)),
        telemetry=telemetry,
        state_metrics=_state_metrics(database, clock, telemetry),
        readiness=Readiness(database, clock, telemetry.heartbeats, stopping),
        cookie_key=derive_key(secret, "admin cookies").hex(),
        stopping=stopping,
    )


def _state_metrics(database: Database, clock: Clock, telemetry: Telemetry) -> StateMetrics:
    state = StateMetrics(database, clock)
    telemetry.metrics.registry.register(state)
    return state


async def _start_coordination(stack: AsyncExitStack, services: AppServices) -> None:
    """Hints and the queue index; processes with control loops synchronize the index with the rows."""
    coordination, database = services.coordination, services.database
    if coordination.queue is not None:
        feed(coordination.queue, database)
    await coordination.start()
    stack.push_async_callback(coordination.close)
    if coordination.queue is not None and services.settings.role != "api":
        index_sync = QueueIndexSync(database, services.clock, services.wakeup, coordination.queue)
        await stack.enter_async_context(queue_index_syncing(index_sync))


async def _begin_loops(stack: AsyncExitStack, services: AppServices) -> None:
    """Start the loops; they release their leases when the server begins to stop."""
    runtimes = services.runtimes
    if not _loops_alone(services.settings):
        runtimes = _runtimes(services.settings, services.install_id, services.clock)
        stack.push_async_callback(runtimes.close)
    loops = _loops(services, runtimes)
    loops.start()

    async def release_leases() -> None:
        await services.stopping.wait()
        await loops.stop()

    task = asyncio.create_task(release_leases(), name="release-leases")
    stack.push_async_callback(asyncio.wait_for, task, None)


def _loops_alone(settings: Settings) -> bool:
    """Whether the loops of this process are the only ones, so that it drives every engine."""
    return settings.role == "all" and parse_database_url(settings.database_url).is_sqlite


def _runtimes(settings: Settings, install_id: str, clock: Clock, *, reading: bool = False) -> RuntimeRegistry:
    """Every registered runtime, opened when first used.

    With `reading` a runtime that another process may drive is only read.
    """
    setup = RuntimeSetup(settings, install_id, clock)
    return RuntimeRegistry(
        {name: partial(kind.open_reader if reading else kind.open, setup) for name, kind in RUNTIMES.items()},
        describers={name: partial(kind.describe, setup) for name, kind in RUNTIMES.items()},
    )


def _loops(services: AppServices, runtimes: RuntimeRegistry) -> Loops:
    disk = DiskGuard(services.settings.data_dir.absolute(), services.settings.disk_min_free_mb)
    return Loops(
        services.database,
        services.clock,
        services.wakeup,
        runtimes,
        services.encryptor,
        CheckpointEnv(services.attempt_tokens, ReportUrls(services.settings).of),
        install=services.install_id,
        interval=services.settings.scheduler_interval,
        optimizer_seconds=services.settings.improve_seconds,
        local_engines=[EngineRef(name) for name in local_runtimes()],
        retention=_retention_policy(services.settings),
        cordon_checks={
            EngineRef(name): disk.obstacle
            for name in local_runtimes()
            if RUNTIMES[name].log_folder is not None
        },
        site=_site(services.settings),
        random=system_random(),
        lease_times=LeaseTimes.for_ttl(services.settings.lease_seconds),
        telemetry=services.telemetry,
    )


def _site(settings: Settings) -> str:
    try:
        return site_of(settings.data_dir.absolute(), settings.site)
    except OSError as error:
        raise StartupError(f"DATA_DIR {settings.data_dir} cannot be written: {error.strerror}") from None


def _retention_policy(settings: Settings) -> RetentionPolicy:
    folder = settings.data_dir.absolute()
    return RetentionPolicy(
        decisions=DecisionRetention(settings.snapshot_retention_hours, settings.snapshot_max_mb * 2**20),
        events=timedelta(days=settings.event_retention_days),
        idempotency_keys=timedelta(hours=settings.idempotency_retention_hours),
        logs=timedelta(days=settings.log_retention_days),
        log_folders=tuple(
            folder / kind.log_folder for kind in RUNTIMES.values() if kind.log_folder is not None
        ),
    )


@contextmanager
def _stopping_on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` with the first SIGINT or SIGTERM, before the server's own handler runs.

    The server waits for open requests before it ends the lifespan, so streams must be stopped earlier.
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
