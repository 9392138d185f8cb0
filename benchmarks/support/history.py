"""Years of history in minutes: deployments, attempts and events, multiplied by the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from hypervisor.client import Client

EVENTS_EACH = 10
_NAMES = 20_000
# Of a thousand: one runs, nine wait, the others have ended.
_STATE = (
    "CASE WHEN g % 1000 = 0 THEN 'RUNNING' WHEN g % 1000 < 10 THEN 'QUEUED' "
    "WHEN g % 10 = 7 THEN 'FAILED' WHEN g % 50 = 3 THEN 'CANCELLED' ELSE 'SUCCEEDED' END"
)


async def grow(database_url: str, client: Client, cluster: int, deployments: int) -> None:
    """Fill the history of one organization: `deployments` rows over a year, each with an attempt and ten
    events; a tenth of them belongs to a second cluster.
    """
    sample = client.deployments.create(
        {"cluster_id": cluster, "name": "sample", "kind": "job", "command": ["true"], "labels": {"team": "a"}}
    )
    totals = {"total_cpu_cores": 8, "total_ram_gb": 32}
    second = client.clusters.create("second", totals)["id"]
    connection = await asyncpg.connect(database_url, command_timeout=3600)
    try:
        # Rows are copies of rows that satisfy every reference.
        await connection.execute("SET session_replication_role = replica; SET statement_timeout = 0")
        await _copy_deployments(connection, sample["id"], second, deployments)
        await _make_attempts(connection, sample["id"])
        await _copy_events(connection, sample["id"])
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _copy_deployments(connection: Any, sample: int, second: int, count: int) -> None:
    at = f"now() - interval '1 year' * (({count} - g)::float / {count})"
    changed = {
        "name": f"'job-' || g % {_NAMES}",
        "cluster_id": f"CASE WHEN g % 10 = 5 THEN {second} ELSE t.cluster_id END",
        "state": _STATE,
        "priority": "(ARRAY[100, 500, 500, 750, 1000])[1 + g % 5]",
        "created_at": at,
        "queued_at": at,
        "started_at": f"CASE WHEN {_STATE} = 'QUEUED' THEN NULL ELSE {at} END",
        "finished_at": f"CASE WHEN {_STATE} IN ('QUEUED', 'RUNNING') THEN NULL ELSE {at} END",
    }
    source = f"deployments AS t, generate_series(1, {count}) AS g WHERE t.id = {sample}"
    await _insert(connection, "deployments", changed, source)
    await connection.execute(
        "INSERT INTO deployment_labels (deployment_id, key, value) "
        f"SELECT id, 'team', 'team-' || id % 100 FROM deployments WHERE id > {sample} AND id % 3 = 0"
    )


async def _make_attempts(connection: Any, sample: int) -> None:
    await connection.execute(
        "INSERT INTO attempts (deployment_id, organization_id, cluster_id, node_name, number, replica, "
        "runtime, instance, gpu_indices, gpu_each, created_at, started_at, finished_at, outcome, exit_code) "
        "SELECT id, organization_id, cluster_id, 'node-1', 1, 0, 'simulated', "
        "'hv-bench-' || id || '-1-0', '[]', 0, created_at, started_at, finished_at, "
        "CASE WHEN finished_at IS NOT NULL THEN 'succeeded' END, "
        "CASE WHEN finished_at IS NOT NULL THEN 0 END "
        f"FROM deployments WHERE id > {sample} AND state <> 'QUEUED'"
    )


async def _copy_events(connection: Any, sample: int) -> None:
    changed = {"deployment_id": "d.id", "cluster_id": "d.cluster_id", "at": "d.created_at"}
    source = (
        f"deployments AS d, generate_series(1, {EVENTS_EACH}) AS g, "
        f"(SELECT * FROM events WHERE deployment_id = {sample} ORDER BY id LIMIT 1) AS t "
        f"WHERE d.id > {sample}"
    )
    await _insert(connection, "events", changed, source)


async def _insert(connection: Any, table: str, changed: Mapping[str, str], source: str) -> None:
    """Insert copies of the row `t` of `source`, with these expressions for some columns."""
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND column_name <> 'id'",
        table,
    )
    columns = [row["column_name"] for row in rows]
    values = ", ".join(changed.get(column, f't."{column}"') for column in columns)
    await connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {source}")
