"""The database: whether it answers, fits this version and this key, and what it says of time and engines."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from hypervisor.cli.core.database_access import printable_database
from hypervisor.cli.doctor.finding import Finding, Status, first_line
from hypervisor.cli.doctor.local_checks import key_id
from hypervisor.settings import Settings
from hypervisor.store.base import Base
from hypervisor.store.compatibility import misfits
from hypervisor.store.copies import database_file
from hypervisor.store.database import normalise_url
from hypervisor.store.migrations.runner import head_revision, known_revisions
from hypervisor.store.tables import Cluster, Event, Invite, Node, Server

DATABASE, CLOCK, KEY, SCHEDULERS = "database", "clock", "secret key", "schedulers"
OLDEST_POSTGRESQL = 130000
CHECKED_MIB = 512
"""Up to this size a SQLite file is read as a whole."""
CLOSE = timedelta(seconds=2)
FAR = timedelta(seconds=30)


@dataclass
class NodeEngines:
    """What other checks want to know of the database."""

    engines: set[tuple[str, str | None]] = field(default_factory=set)
    """Runtime and endpoint of every node's engine."""


async def database(settings: Settings, seen: NodeEngines) -> Sequence[Finding]:
    """Everything about the database; fills `seen`. Raises StartupError for a URL that is not supported."""
    file = database_file(settings.database_url)
    shown = printable_database(settings.database_url)
    if file is not None and not file.exists():
        return [Finding(DATABASE, "ok", f"{shown}: not there yet, the first start makes it")]
    engine = create_async_engine(normalise_url(settings.database_url))
    try:
        async with engine.connect() as connection:
            found = [] if file is not None else await _of_postgresql(connection)
            return [
                *found,
                *await _of_schema(connection, shown, settings, seen),
                *await asyncio.to_thread(_of_file, file),
            ]
    except Exception as error:
        told = f"{shown} cannot be used: {first_line(getattr(error, 'orig', None) or error)}"
        return [Finding(DATABASE, "problem", told, "look whether it runs and DATABASE_URL is right")]
    finally:
        await engine.dispose()


def judge_clock(ahead: timedelta, of: str) -> Finding:
    """What it means that another clock is so far `ahead` of this machine's."""
    side = "ahead of" if ahead > timedelta() else "behind"
    told = f"{of} is {abs(ahead.total_seconds()):.1f} s {side} this one"
    if abs(ahead) <= CLOSE:
        return Finding(CLOCK, "ok", told)
    status: Status = "warning" if abs(ahead) <= FAR else "problem"
    return Finding(CLOCK, status, f"{told}: times in the history are wrong", "let NTP set both clocks")


async def _of_postgresql(connection: AsyncConnection) -> list[Finding]:
    query = (
        "SELECT clock_timestamp(), current_setting('server_version_num')::int, pg_is_in_recovery(), "
        "current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity)"
    )
    asked = datetime.now(UTC)
    now, version, standby, most, used = (await connection.execute(text(query))).one()
    # The answer was given somewhere between question and now.
    found = [judge_clock(now - (asked + (datetime.now(UTC) - asked) / 2), "the database's clock")]
    if version < OLDEST_POSTGRESQL:
        told = f"PostgreSQL {version // 10000} is older than what this is tested with"
        found.append(Finding(DATABASE, "warning", told, "use PostgreSQL 13 or newer"))
    if standby:
        told = "this PostgreSQL is a standby: it cannot be written"
        found.append(Finding(DATABASE, "problem", told, "point DATABASE_URL to the primary"))
    if used > most * 0.8:
        told = f"{used} of {most} connections are in use; each server takes up to 15"
        found.append(Finding(DATABASE, "warning", told, "raise max_connections, or run fewer servers"))
    return found


async def _of_schema(
    connection: AsyncConnection, shown: str, settings: Settings, seen: NodeEngines
) -> list[Finding]:
    if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
        if database_file(settings.database_url) is not None:
            return [Finding(DATABASE, "ok", f"{shown} is empty: the first start fills it")]
        return [Finding(DATABASE, "problem", f"{shown} is empty", "run `hypervisor migrate`")]
    revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision != head_revision():
        finding = await _other_schema(connection, shown, str(revision), settings)
        if finding.status == "problem":
            return [finding]
    else:
        finding = Finding(DATABASE, "ok", f"{shown} answers, schema {revision}")
    return [finding, *await _of_rows(connection, settings, seen)]


async def _other_schema(
    connection: AsyncConnection, shown: str, revision: str, settings: Settings
) -> Finding:
    if revision in known_revisions():
        told = f"{shown} has schema {revision}, and this version needs {head_revision()}"
        if database_file(settings.database_url) is None:
            return Finding(DATABASE, "problem", told, "run `hypervisor migrate`")
        return Finding(DATABASE, "warning", told, "save it (`hypervisor backup`); the next start migrates it")
    told = f"{shown} has schema {revision}, of a newer version"
    missing: list[str] = await connection.run_sync(lambda sync: misfits(sync, Base.metadata))
    if missing:
        return Finding(DATABASE, "problem", f"{told}: {missing[0]}", "install the newer version")
    return Finding(DATABASE, "warning", f"{told}; this one can work on it", "finish the upgrade")


async def _of_rows(connection: AsyncConnection, settings: Settings, seen: NodeEngines) -> list[Finding]:
    engines = select(Cluster.resolved_runtime, Node.engine_endpoint).join(Node, Node.cluster_id == Cluster.id)
    seen.engines |= {(row[0], row[1]) for row in await connection.execute(engines.distinct())}
    found = []
    sealed = await connection.scalar(select(Invite.code_encrypted).order_by(Invite.id.desc()).limit(1))
    mine = key_id(settings)
    if sealed is not None and mine is not None and sealed.split(".")[1] != mine:
        told = f"the database is sealed with key {sealed.split('.')[1]}, and this is key {mine}"
        found.append(Finding(KEY, "problem", told, "set the SECRET_KEY that the server had before"))
    newest = await connection.scalar(select(Event.at).order_by(Event.id.desc()).limit(1))
    if newest is not None and newest - datetime.now(UTC) > FAR:
        told = f"the newest event is of {newest:%Y-%m-%d %H:%M:%S} UTC, which is yet to come"
        found.append(Finding(CLOCK, "problem", told, "this machine's clock was set back: let NTP set it"))
    if seen.engines and connection.dialect.name != "sqlite":
        found.append(await _of_schedulers(connection))
    return found


async def _of_schedulers(connection: AsyncConnection) -> Finding:
    """Who shares the scheduling of clusters; on SQLite that is the server itself."""
    alive = select(func.count()).select_from(Server).where(Server.expires_at > func.now())
    count = await connection.scalar(alive) or 0
    if count:
        return Finding(SCHEDULERS, "ok", f"{count} alive")
    told = "none is alive: what runs goes on, what is queued waits"
    return Finding(SCHEDULERS, "warning", told, "start one: `hypervisor serve --role scheduler`")


def _of_file(file: Path | None) -> list[Finding]:
    if file is None:
        return []
    size = file.stat().st_size // 2**20
    if size > CHECKED_MIB:
        told = f"{file} has {size} MiB and was not read as a whole; PostgreSQL is made for this size"
        return [Finding(DATABASE, "ok", told)]
    broken = _quick_check(file)
    if broken is None:
        return []
    return [Finding(DATABASE, "problem", f"{file} is damaged: {broken}", "restore a backup: docs/backup.md")]


def _quick_check(file: Path) -> str | None:
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if found == "ok" else str(found)
