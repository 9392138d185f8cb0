"""Checks of the database: connection, schema, key, clock, file and live schedulers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.cli.core.database_access import printable_database
from hypervisor.cli.doctor.finding import Finding, Status, first_line
from hypervisor.cli.doctor.local_checks import configured_encryptor
from hypervisor.organizations.secret_key_check import other_key_id
from hypervisor.settings import Settings
from hypervisor.store.base import Base
from hypervisor.store.compatibility import incompatibilities
from hypervisor.store.copies import database_file
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.migrations.runner import encoding_refusal, head_revision, known_revisions
from hypervisor.store.tables import Cluster, Event, Node, Server

DATABASE, CLOCK, KEY, SCHEDULERS = "database", "clock", "secret key", "schedulers"
MIN_POSTGRESQL = 130000
MAX_CHECKED_MIB = 512
"""Size up to which a SQLite file is checked page by page."""
CLOCK_TOLERANCE = timedelta(seconds=2)
CLOCK_PROBLEM = timedelta(seconds=30)
CONNECTIONS_WARNING = 0.8
"""Share of used connections from which a warning is given."""


@dataclass
class NodeEngines:
    """The engines of all nodes, as (runtime, endpoint)."""

    engines: set[tuple[str, str | None]] = field(default_factory=set)


async def database(settings: Settings, node_engines: NodeEngines) -> Sequence[Finding]:
    """All checks of the database. Fills `node_engines`. Raises StartupError for an unsupported URL."""
    file = database_file(settings.database_url)
    shown = printable_database(settings.database_url)
    if file is not None and not file.exists():
        return [Finding(DATABASE, "ok", f"{shown} does not exist yet: the first start creates it")]
    engine = parse_database_url(settings.database_url).engine()
    try:
        async with engine.connect() as connection:
            server_findings = [] if file is not None else await _postgresql_findings(connection)
            return [
                *server_findings,
                *await _schema_findings(connection, shown, settings, node_engines),
                *await asyncio.to_thread(_file_findings, file),
            ]
    except Exception as error:
        detail = f"{shown} cannot be used: {first_line(getattr(error, 'orig', None) or error)}"
        return [Finding(DATABASE, "problem", detail, "check that it runs and that DATABASE_URL is correct")]
    finally:
        await engine.dispose()


def check_clock(ahead: timedelta, clock_name: str) -> Finding:
    """The finding for another clock that is `ahead` of this machine's clock (negative: behind)."""
    side = "ahead of" if ahead > timedelta() else "behind"
    detail = f"{clock_name} is {abs(ahead.total_seconds()):.1f} s {side} this machine's"
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding(CLOCK, "ok", detail)
    status: Status = "warning" if abs(ahead) <= CLOCK_PROBLEM else "problem"
    return Finding(CLOCK, status, f"{detail}: event times are wrong", "synchronize both clocks with NTP")


async def _postgresql_findings(connection: AsyncConnection) -> list[Finding]:
    query = (
        "SELECT clock_timestamp(), current_setting('server_version_num')::int, pg_is_in_recovery(), "
        "current_setting('transaction_read_only') = 'on', "
        "current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity)"
    )
    sent = datetime.now(UTC)
    now, version, standby, read_only, max_connections, used = (await connection.execute(text(query))).one()
    # The database read its clock at some time between the request and the response: take the middle.
    middle = sent + (datetime.now(UTC) - sent) / 2
    findings = [check_clock(now - middle, "the clock of the database")]
    if version < MIN_POSTGRESQL:
        detail = f"PostgreSQL {version // 10000} is older than the tested versions"
        findings.append(Finding(DATABASE, "warning", detail, "use PostgreSQL 13 or newer"))
    if standby:
        detail = "this PostgreSQL is a standby and cannot be written to"
        findings.append(Finding(DATABASE, "problem", detail, "point DATABASE_URL to the primary"))
    elif read_only:
        detail = "this PostgreSQL is read-only (default_transaction_read_only)"
        advice = "reset that setting of the server, the database or the role"
        findings.append(Finding(DATABASE, "problem", detail, advice))
    if used > max_connections * CONNECTIONS_WARNING:
        detail = f"{used} of {max_connections} connections are in use; each server needs up to 15"
        findings.append(Finding(DATABASE, "warning", detail, "raise max_connections, or run fewer servers"))
    return findings


async def _schema_findings(
    connection: AsyncConnection, shown: str, settings: Settings, node_engines: NodeEngines
) -> list[Finding]:
    if refusal := await connection.run_sync(encoding_refusal):
        return [Finding(DATABASE, "problem", *refusal)]
    if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
        if database_file(settings.database_url) is not None:
            return [Finding(DATABASE, "ok", f"{shown} is empty: the first start creates the schema")]
        return [Finding(DATABASE, "problem", f"{shown} is empty", "run `hypervisor migrate`")]
    revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision != head_revision():
        finding = await _other_schema(connection, shown, str(revision), settings)
        if finding.status == "problem":
            return [finding]
    else:
        finding = Finding(DATABASE, "ok", f"{shown} responds, schema {revision}")
    return [finding, *await _row_findings(connection, settings, node_engines)]


async def _other_schema(
    connection: AsyncConnection, shown: str, revision: str, settings: Settings
) -> Finding:
    if revision in known_revisions():
        detail = f"{shown} has schema {revision}; this version needs {head_revision()}"
        if database_file(settings.database_url) is None:
            return Finding(DATABASE, "problem", detail, "run `hypervisor migrate`")
        return Finding(
            DATABASE, "warning", detail, "back it up (`hypervisor backup`); the next start migrates it"
        )
    detail = f"{shown} has schema {revision}, from a newer version"
    missing: list[str] = await connection.run_sync(lambda sync: incompatibilities(sync, Base.metadata))
    if missing:
        return Finding(DATABASE, "problem", f"{detail}: {missing[0]}", "install the newer version")
    return Finding(DATABASE, "warning", f"{detail}; this version can use it", "finish the upgrade")


async def _row_findings(
    connection: AsyncConnection, settings: Settings, node_engines: NodeEngines
) -> list[Finding]:
    engines = select(Cluster.resolved_runtime, Node.engine_endpoint).join(Node, Node.cluster_id == Cluster.id)
    node_engines.engines |= {(row[0], row[1]) for row in await connection.execute(engines.distinct())}
    findings = []
    encryptor = configured_encryptor(settings)
    database_key = await other_key_id(connection, encryptor) if encryptor is not None else None
    if encryptor is not None and database_key is not None:
        detail = (
            f"the database is encrypted with key {database_key}; the configured key is {encryptor.key_id}"
        )
        advice = "set the SECRET_KEY that the server had before; if it is lost, run `hypervisor replace-key`"
        findings.append(Finding(KEY, "problem", detail, advice))
    newest = await connection.scalar(select(Event.at).order_by(Event.id.desc()).limit(1))
    if newest is not None and newest - datetime.now(UTC) > CLOCK_PROBLEM:
        detail = f"the newest event has a time in the future: {newest:%Y-%m-%d %H:%M:%S} UTC"
        advice = "this machine's clock was set back: synchronize it with NTP"
        findings.append(Finding(CLOCK, "problem", detail, advice))
    if node_engines.engines and connection.dialect.name != "sqlite":
        findings.append(await _scheduler_finding(connection))
    return findings


async def _scheduler_finding(connection: AsyncConnection) -> Finding:
    """Whether a scheduler is alive. With SQLite the server itself is the scheduler."""
    alive = select(func.count()).select_from(Server).where(Server.expires_at > func.now())
    count = await connection.scalar(alive) or 0
    if count:
        return Finding(SCHEDULERS, "ok", f"{count} alive")
    detail = "no scheduler is alive: running deployments continue, queued ones wait"
    return Finding(SCHEDULERS, "warning", detail, "start one: `hypervisor serve --role scheduler`")


def _file_findings(file: Path | None) -> list[Finding]:
    if file is None:
        return []
    size = file.stat().st_size // 2**20
    if size > MAX_CHECKED_MIB:
        detail = f"{file} has {size} MiB and was not checked page by page; consider PostgreSQL at this size"
        return [Finding(DATABASE, "ok", detail)]
    damage = _quick_check(file)
    if damage is None:
        return []
    return [Finding(DATABASE, "problem", f"{file} is damaged: {damage}", "restore a backup: docs/backup.md")]


def _quick_check(file: Path) -> str | None:
    """The first damage that SQLite finds in the file; None without damage."""
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if result == "ok" else str(result)
