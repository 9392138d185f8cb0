"""Durable submissions per second (HTTP 201 after the commit), compared with pgbench and the same inserts.

`python -m benchmarks.accepts` starts a PostgreSQL that syncs every commit, and two API servers. With 1, 4 and
16 clients it alternates between pgbench with the three inserts of one submission (idempotency key,
deployment, event) in one transaction, single creates with an Idempotency-Key, and batch creates.
`accepts_over_pgbench` is the rate of single creates relative to pgbench, `batch_over_single` the rate of
deployments in batches relative to single creates.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
from collections import defaultdict
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from benchmarks.support.http_load import Outcome, drive, request
from benchmarks.support.postgres_servers import PostgresServers, postgres_servers
from benchmarks.support.report import print_report

_BATCH = 100
_INSERTED = ("idempotency_keys", "deployments", "events")


def main() -> None:
    """Measure and print the report."""
    arguments = _parse()
    seconds, rounds = (1.0, 1) if arguments.small else (arguments.seconds, arguments.rounds)
    rates: dict[int, dict[str, list[float]]] = {}
    with postgres_servers() as servers:
        script = asyncio.run(_script(servers))
        for clients in arguments.clients:
            rates[clients] = defaultdict(list)
            for _ in range(rounds):
                for side, rate in _round(servers, script, clients, seconds).items():
                    rates[clients][side].append(rate)
    print_report("accepts", {"clients": {clients: _summary(sides) for clients, sides in rates.items()}})


def _round(servers: PostgresServers, script: str, clients: int, seconds: float) -> dict[str, float]:
    single = _drive(servers, clients, seconds, batch=False)
    batch = _drive(servers, clients, seconds, batch=True)
    return {
        "pgbench": servers.pgbench(script, clients=clients, seconds=seconds),
        "single": single.rate,
        "batch": batch.rate * _BATCH,
    }


def _drive(servers: PostgresServers, clients: int, seconds: float, *, batch: bool) -> Outcome:
    token = servers.token
    fields = _fields(servers.cluster)
    path, body = (
        ("/deployments/batch", {"deployments": [fields] * _BATCH}) if batch else ("/deployments", fields)
    )

    def prepare(number: int) -> bytes:
        return request("POST", path, token, body, Idempotency_Key=f"{number}-{secrets.token_hex(8)}")

    outcome = asyncio.run(drive(servers.urls, prepare, clients=clients, seconds=seconds, expected=201))
    assert not outcome.refused, f"{outcome.refused} requests were not accepted"
    return outcome


def _fields(cluster: int) -> dict[str, Any]:
    return {"cluster_id": cluster, "name": "accepted", "kind": "job", "command": ["true"]}


async def _script(servers: PostgresServers) -> str:
    """The inserts of a real submission as a pgbench script."""
    token = servers.token
    message = request("POST", "/deployments", token, _fields(servers.cluster), Idempotency_Key="sample")
    await drive(servers.urls[:1], lambda _: message, clients=1, seconds=0.0001, expected=201)
    connection = await asyncpg.connect(servers.database_url)
    try:
        rows = {table: await _literals(connection, table) for table in _INSERTED}
    finally:
        await connection.close()
    # Each transaction has a new key. The event belongs to the deployment of the same transaction.
    rows["idempotency_keys"]["key"] = "(:client_id || '-' || :number)"
    rows["events"]["deployment_id"] = ":deployment_id"
    inserts = {table: _insert(table, row) for table, row in rows.items()}
    return "\n".join(
        [
            "\\set number random(1, 9000000000000000)",
            "BEGIN;",
            f"{inserts['idempotency_keys']};",
            f"{inserts['deployments']} RETURNING id AS deployment_id \\gset",
            f"{inserts['events']};",
            "COMMIT;",
        ]
    )


async def _literals(connection: Any, table: str) -> dict[str, str]:
    """The newest row as SQL literals by column, without the generated id."""
    order = "created_at" if table == "idempotency_keys" else "id"
    rows = await connection.fetch(
        f"WITH newest AS (SELECT * FROM {table} ORDER BY {order} DESC LIMIT 1) "
        "SELECT field.key, quote_nullable(field.value) AS literal "
        "FROM newest, jsonb_each_text(to_jsonb(newest)) AS field"
    )
    return {row["key"]: row["literal"] for row in rows if row["key"] != "id"}


def _insert(table: str, row: dict[str, str]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})"


def _summary(sides: dict[str, list[float]]) -> dict[str, float]:
    median = {side: statistics.median(values) for side, values in sides.items()}
    return {f"{side}_per_second": round(value, 1) for side, value in median.items()} | {
        "accepts_over_pgbench": round(median["single"] / median["pgbench"], 3),
        "batch_over_single": round(median["batch"] / median["single"], 2),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 4, 16], help="numbers of clients (default 1 4 16)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per side and round (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default 3)")
    parser.add_argument("--small", action="store_true", help="a quick run: one round, one second per side")
    return parser.parse_args()


if __name__ == "__main__":
    main()
