"""Years of history in minutes: deployments, attempts, events, logins, multiplied by the database itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from hypervisor.client import Client

EVENTS_EACH = 10
QUIET = 50
"""Deployments of an organization that did something long ago and nothing since."""
_NAMES = 20_000
# Of a thousand: one runs, nine wait, the others have ended.
_STATE = (
    "CASE WHEN g % 1000 = 0 THEN 'RUNNING' WHEN g % 1000 < 10 THEN 'QUEUED' "
    "WHEN g % 10 = 7 THEN 'FAILED' WHEN g % 50 = 3 THEN 'CANCELLED' ELSE 'SUCCEEDED' END"
)


@dataclass(frozen=True, slots=True)
class History:
    """Where things are: ids of organizations and clusters. `retired` was used in the first weeks only."""

    busy: int
    quiet: int
    cluster: int
    second: int
    retired: int
    first: int
    """The id of the oldest deployment of the busy organization; the others follow without gaps."""


async def grow(database_url: str, client: Client, cluster: int, deployments: int) -> History:
    """Fill a year of one organization: `deployments` rows on three clusters, each with an attempt and ten
    events, before them a little of a quiet organization; VACUUM ANALYZE at the end.
    """
    connection = await asyncpg.connect(database_url, command_timeout=3600)
    try:
        # Rows are copies of rows that satisfy every reference.
        await connection.execute("SET session_replication_role = replica; SET statement_timeout = 0")
        busy, quiet = _sample(client, cluster, "busy"), _quiet_sample(client)
        totals = {"total_cpu_cores": 8, "total_ram_gb": 32, "organization_id": busy["organization_id"]}
        second, retired = (client.clusters.create(name, totals)["id"] for name in ("second", "retired"))
        await _copy_deployments(connection, quiet["id"], QUIET, {})
        first = await connection.fetchval("SELECT max(id) + 1 FROM deployments")
        places = f"CASE WHEN g % 10 = 5 THEN {second} WHEN g < {deployments / 20} AND g % 1000 > 9 "
        changed = {"cluster_id": f"{places} THEN {retired} ELSE t.cluster_id END"}
        await _copy_deployments(connection, busy["id"], deployments, changed)
        await _make_attempts(connection, quiet["id"])
        await _make_what_belongs(connection, first, cluster)
        await _copy_events(connection, quiet["id"])
        await _make_what_expires(connection, busy["created_by"], cluster, deployments)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return History(busy["organization_id"], quiet["organization_id"], cluster, second, retired, first)


def _sample(client: Client, cluster: int, name: str) -> Any:
    return client.deployments.create(
        {"cluster_id": cluster, "name": name, "kind": "job", "command": ["true"], "labels": {"team": "a"}}
    )


def _quiet_sample(client: Client) -> Any:
    organization = client.organizations.create("quiet")["id"]
    totals = {"total_cpu_cores": 8, "total_ram_gb": 32, "organization_id": organization}
    return _sample(client, client.clusters.create("quiet", totals)["id"], "quiet")


async def _copy_deployments(connection: Any, sample: int, count: int, more: Mapping[str, str]) -> None:
    at = f"now() - interval '1 year' * (({count} - g)::float / {count})"
    changed = {
        "name": f"CASE WHEN g % 4 = 2 THEN 'nightly' ELSE 'job-' || g % {_NAMES} END",
        "state": _STATE,
        "priority": "(ARRAY[100, 500, 500, 750, 1000])[1 + g % 5]",
        "created_at": at,
        "queued_at": at,
        "started_at": f"CASE WHEN {_STATE} = 'QUEUED' THEN NULL ELSE {at} END",
        "finished_at": f"CASE WHEN {_STATE} IN ('QUEUED', 'RUNNING') THEN NULL ELSE {at} END",
        "attempts_made": f"CASE WHEN {_STATE} = 'QUEUED' THEN 0 ELSE 1 END",
        **more,
    }
    source = f"deployments AS t, generate_series(1, {count}) AS g WHERE t.id = {sample}"
    await _insert(connection, "deployments", changed, source)


async def _make_attempts(connection: Any, after: int) -> None:
    await connection.execute(
        "INSERT INTO attempts (deployment_id, organization_id, cluster_id, node_name, number, replica, "
        "runtime, instance, gpu_indices, gpu_milli_per_device, created_at, started_at, finished_at, outcome, "
        "exit_code, "
        "stop_requested_at, preempted_by) "
        "SELECT id, organization_id, cluster_id, 'node-1', 1, 0, 'simulated', "
        "'hv-bench-' || id || '-1-0', '[]', 0, created_at, started_at, finished_at, "
        "CASE WHEN finished_at IS NOT NULL THEN 'succeeded' END, "
        "CASE WHEN finished_at IS NOT NULL THEN 0 END, "
        "CASE WHEN id % 500 = 1 AND finished_at IS NOT NULL THEN finished_at END, "
        "CASE WHEN id % 500 = 1 AND finished_at IS NOT NULL THEN id - 1 END "
        f"FROM deployments WHERE id > {after} AND state <> 'QUEUED'"
    )


async def _make_what_belongs(connection: Any, first: int, cluster: int) -> None:
    """Labels for every third, a dependency for every hundredth, allocations for what runs."""
    await connection.execute(
        "INSERT INTO deployment_labels (deployment_id, key, value) "
        f"SELECT id, 'team', 'team-' || id % 100 FROM deployments WHERE id >= {first} AND id % 3 = 0"
    )
    await connection.execute(
        "INSERT INTO dependencies (deployment_id, depends_on_id, condition) "
        f"SELECT id, id - 1, 'succeeded' FROM deployments WHERE id > {first} AND id % 100 = 0"
    )
    await connection.execute(
        "INSERT INTO allocations (attempt_id, deployment_id, cluster_id, node_id, cpu_milli, ram_mib, "
        "gpu_milli) SELECT a.id, a.deployment_id, a.cluster_id, n.id, 1, 1, 0 "
        f"FROM attempts AS a JOIN nodes AS n ON n.cluster_id = a.cluster_id "
        f"WHERE a.finished_at IS NULL AND a.cluster_id = {cluster}"
    )


async def _copy_events(connection: Any, quiet: int) -> None:
    changed = {
        "organization_id": "d.organization_id",
        "deployment_id": "d.id",
        "cluster_id": "d.cluster_id",
        "at": "d.created_at",
    }
    source = (
        f"deployments AS d, generate_series(1, {EVENTS_EACH}) AS g, "
        f"(SELECT * FROM events WHERE deployment_id = {quiet} ORDER BY id LIMIT 1) AS t "
        f"WHERE d.id > {quiet} ORDER BY d.id, g"
    )
    await _insert(connection, "events", changed, source)


async def _make_what_expires(connection: Any, user: int, cluster: int, deployments: int) -> None:
    """A day of decisions and keys, a month of logins: a fiftieth as many as deployments, each."""
    count = deployments // 50
    at = f"now() - interval '20 hours' * (({count} - g)::float / {count})"
    series = f"FROM generate_series(1, {count}) AS g"
    await connection.execute(
        "INSERT INTO decisions (cluster_id, at, epoch, snapshot_hash, plan_hash, placements, evictions, "
        "nominations, waiting, snapshot, snapshot_bytes) "
        f"SELECT {cluster}, {at}, 1, md5(g::text), md5(g::text), 1, 0, 0, 0, 'x', 1 {series}"
    )
    await connection.execute(
        "INSERT INTO idempotency_keys (user_id, key, request_hash, deployment_ids, created_at) "
        f"SELECT {user}, 'key-' || g, md5(g::text), '[]', {at} {series}"
    )
    await connection.execute(
        "INSERT INTO login_sessions (id, user_id, created_at, expires_at) "
        f"SELECT md5(g::text), {user}, {at}, now() + interval '30 days' {series}"
    )
    await connection.execute(
        "INSERT INTO refresh_tokens (session_id, token_hash, created_at, expires_at) "
        f"SELECT md5(g::text), md5(g::text), {at}, now() + interval '7 days' {series}"
    )


async def _insert(connection: Any, table: str, changed: Mapping[str, str], source: str) -> None:
    """Insert copies of the row `t` of `source`, with these expressions for some columns."""
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND column_name <> 'id'",
        table,
    )
    columns = [row["column_name"] for row in rows]
    values = ", ".join(changed.get(column, f't."{column}"') for column in columns)
    await connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {source}")
