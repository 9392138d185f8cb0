"""What is forgotten in time: sessions, keys of requests, history, decisions, logs of what has ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from hypervisor.control.scheduler.decision_log import Retention, forget_decisions
from hypervisor.identity.sessions import purge
from hypervisor.kernel.names import InstanceName
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database
from hypervisor.store.tables import Event, IdempotencyKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long what is kept. `log_folders` hold one entry, named after the instance, for each kept log."""

    decisions: Retention = field(default_factory=Retention)
    events: timedelta = timedelta(days=90)
    idempotency_keys: timedelta = timedelta(hours=24)
    logs: timedelta = timedelta(days=30)
    log_folders: tuple[Path, ...] = ()


async def forget_rows(database: Database, keep: RetentionPolicy, now: datetime) -> None:
    """Delete expired rows, in short transactions; a large backlog goes over several calls."""
    await purge(database, now)
    await forget_decisions(database, keep.decisions, now)
    keys = (IdempotencyKey.user_id, IdempotencyKey.key)
    old = IdempotencyKey.created_at < now - keep.idempotency_keys
    await delete_in_batches(database, keys, old, oldest_first=IdempotencyKey.created_at)
    gone = await delete_in_batches(database, Event.id, Event.at < now - keep.events, oldest_first=Event.at)
    if gone:
        log.info("janitor.events_forgotten", count=gone)


def forget_logs(keep: RetentionPolicy, now: datetime) -> None:
    """Delete kept logs by age. Reads folders: for a thread. Logs of live instances are elsewhere."""
    before = (now - keep.logs).timestamp()
    gone = sum(_delete_old(path, before) for folder in keep.log_folders for path in _kept(folder))
    if gone:
        log.info("janitor.logs_forgotten", count=gone)


def _kept(folder: Path) -> Iterator[Path]:
    """Entries that are logs of instances; anything else in there is not ours to delete."""
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return
    for path in entries:
        if InstanceName.parse(path.name.removesuffix(".log")) is not None:
            yield path


def _delete_old(path: Path, before: float) -> bool:
    try:
        if path.stat().st_mtime >= before:
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("janitor.log_not_deleted", path=str(path), error=str(error))
        return False
    return True
