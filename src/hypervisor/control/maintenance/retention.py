"""Deletion by age: sessions, idempotency keys, events, decisions, logs of ended instances."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from hypervisor.control.scheduler.decision_log import DecisionRetention, delete_expired_decisions
from hypervisor.identity.sessions import purge
from hypervisor.kernel.names import InstanceName
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database
from hypervisor.store.tables import Event, IdempotencyKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long each kind of data is kept. `log_folders` hold one entry per kept log, named by instance."""

    decisions: DecisionRetention = field(default_factory=DecisionRetention)
    events: timedelta = timedelta(days=90)
    idempotency_keys: timedelta = timedelta(hours=24)
    logs: timedelta = timedelta(days=30)
    log_folders: tuple[Path, ...] = ()


async def delete_expired_rows(database: Database, retention: RetentionPolicy, now: datetime) -> None:
    """Delete expired rows in short transactions; a large backlog takes several calls."""
    await purge(database, now)
    await delete_expired_decisions(database, retention.decisions, now)
    keys = (IdempotencyKey.user_id, IdempotencyKey.key)
    expired = IdempotencyKey.created_at < now - retention.idempotency_keys
    await delete_in_batches(database, keys, expired, oldest_first=IdempotencyKey.created_at)
    deleted = await delete_in_batches(
        database, Event.id, Event.at < now - retention.events, oldest_first=Event.at
    )
    if deleted:
        log.info("maintenance.events_deleted", count=deleted)


def delete_expired_logs(retention: RetentionPolicy, now: datetime) -> None:
    """Delete kept logs by age. Blocking: call it in a thread. Live instances log to other files."""
    expired_before = (now - retention.logs).timestamp()
    deleted = sum(
        _delete_old(path, expired_before) for folder in retention.log_folders for path in _kept(folder)
    )
    if deleted:
        log.info("maintenance.logs_deleted", count=deleted)


def _kept(folder: Path) -> Iterator[Path]:
    """The logs of instances in the folder; all other entries are left alone."""
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return
    for path in entries:
        if InstanceName.parse(path.name.removesuffix(".gz").removesuffix(".log")) is not None:
            yield path


def _delete_old(path: Path, expired_before: float) -> bool:
    try:
        if path.stat().st_mtime >= expired_before:
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("maintenance.log_not_deleted", path=str(path), error=str(error))
        return False
    return True
