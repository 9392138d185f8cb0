"""Reading from a long history: latencies under 16 clients, and the plans that PostgreSQL makes.

`python -m benchmarks.reads` fills a PostgreSQL with 1,000,000 deployments of one organization, as many
attempts and 10,000,000 events (minutes, some gigabytes), then asks two API replicas for single deployments,
lists with every filter, and histories. It prints one JSON line and fails where a statement behind one of
these answers reads a large table from end to end, or a page takes one client 50 ms or longer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from pydantic import SecretStr
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.support.history import EVENTS_EACH, grow
from benchmarks.support.load import drive, request
from benchmarks.support.production import SECRET, Production, production
from benchmarks.support.report import print_report
from benchmarks.support.service import in_milliseconds
from hypervisor.app import create_app
from hypervisor.settings import Settings
from hypervisor.store.database import normalise_url

_LARGE = frozenset({"deployments", "attempts", "events", "deployment_labels"})
_PAGE_MS = 50.0
_TOO_MANY_ROWS = 20_000
"""A statement for one page that looks at more rows than this grows with the history."""


def main() -> None:
    """Measure and print; exit 1 when a promise is broken."""
    arguments = _parse()
    rows, seconds = (20_000, 1.0) if arguments.small else (arguments.rows, arguments.seconds)
    with production() as prepared:
        asyncio.run(grow(prepared.database_url, prepared.client, prepared.cluster, rows))
        newest = prepared.client.deployments.page({"limit": 1})["items"][0]["id"]
        paths = _paths(prepared.cluster, newest, rows)
        reads = {name: _read(prepared, paths[name], arguments.clients, seconds) for name in paths}
        plans = asyncio.run(_explain(prepared, {name: next(paths[name]) for name in paths}))
    slow = [name for name, sides in reads.items() if sides["one_client"]["p50_ms"] >= _PAGE_MS]
    print_report(
        "reads",
        {
            "deployments": rows,
            "events": rows * EVENTS_EACH,
            "clients": arguments.clients,
            "reads": reads,
            "slow": slow,
            "bad_plans": plans,
        },
    )
    if slow or plans:
        sys.exit(1)


def _paths(cluster: int, newest: int, rows: int) -> dict[str, Iterator[str]]:
    """Endless paths to read by the name of what they ask for, spread over the history."""
    numbers = random.Random(1)

    def anywhere(template: str) -> Iterator[str]:
        while True:
            yield template.format(
                id=newest - numbers.randrange(rows),
                name=f"job-{numbers.randrange(20_000)}",
                team=f"team-{numbers.randrange(100)}",
                cluster=cluster,
            )

    templates = {
        "one": "/deployments/{id}",
        "newest": "/deployments?limit=50",
        "waiting": "/deployments?limit=50&state=QUEUED",
        "running": "/deployments?limit=50&state=RUNNING",
        "cancelled_of_a_priority": "/deployments?limit=50&state=CANCELLED&priority=HIGH",
        "of_a_cluster": "/deployments?limit=50&cluster_id={cluster}",
        "by_name": "/deployments?limit=50&name={name}",
        "by_label": "/deployments?limit=50&label=team={team}",
        "history_of_one": "/deployments/{id}/events?limit=50",
        "attempts_of_one": "/deployments/{id}/attempts",
    }
    return {name: anywhere(template) for name, template in templates.items()}


def _read(prepared: Production, paths: Iterator[str], clients: int, seconds: float) -> dict[str, Any]:
    token = prepared.token

    def prepare(_: int) -> bytes:
        return request("GET", next(paths), token)

    many, one = (
        asyncio.run(drive(prepared.urls, prepare, clients=count, seconds=seconds, expected=200))
        for count in (clients, 1)
    )
    assert not many.refused, f"{many.refused} requests failed"
    return {
        "per_second": round(many.rate, 1),
        "all_clients": in_milliseconds(many.latencies),
        "one_client": in_milliseconds(one.latencies),
    }


async def _explain(prepared: Production, paths: dict[str, str]) -> dict[str, list[str]]:
    """By path, the statements whose plan grows with the history. The app runs in this process, so that its
    statements can be heard with their parameters.
    """
    settings = Settings(
        database_url=prepared.database_url,
        secret_key=SecretStr(SECRET),
        role="api",
        rate_limit="",
        data_dir=prepared.scratch / "explain",
        default_runtime="simulated",
    )
    app = create_app(settings)
    planner = create_async_engine(normalise_url(prepared.database_url))
    found: dict[str, list[str]] = {}
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {prepared.token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as http:
            for name, path in paths.items():
                with _heard() as statements:
                    (await http.get(f"/api/v1{path}")).raise_for_status()
                bad = [why for one in statements if (why := await _judge(planner, *one))]
                if bad:
                    found[name] = bad
    await planner.dispose()
    return found


@contextmanager
def _heard() -> Iterator[list[tuple[str, Any]]]:
    """The reading statements of this process, with their parameters, until the end of the block."""
    statements: list[tuple[str, Any]] = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


async def _judge(planner: AsyncEngine, statement: str, parameters: Any) -> str | None:
    """Why the plan of a statement is bad, None where it is good."""
    async with planner.connect() as connection:
        told = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        answer = told.scalar_one()
    plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    for node in _nodes(plan):
        table = node.get("Relation Name")
        looked_at = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        if table in _LARGE and (node["Node Type"] == "Seq Scan" or looked_at > _TOO_MANY_ROWS):
            return (
                f"{node['Node Type']} of {table}, {looked_at:.0f} rows: {' '.join(statement.split())[:300]}"
            )
    return None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="deployments; ten events each")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each kind of read")
    parser.add_argument("--small", action="store_true", help="20,000 deployments, a second a read")
    return parser.parse_args()


if __name__ == "__main__":
    main()
