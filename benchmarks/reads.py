"""Reads from a long history: latencies with 16 clients, and the query plans of PostgreSQL.

`python -m benchmarks.reads` fills a PostgreSQL with 1,000,000 deployments of one organization, as many
attempts, and 10,000,000 events (this takes minutes and some gigabytes). Then it reads single deployments, and
the first, middle and last pages of lists with every filter and of event histories, from two API servers. It
fails if a statement of these requests or of a control loop scans a large table or grows with the history. It
also fails if a page takes one client 50 ms or longer. This time is the smaller one of the fastest response
and the CPU time per response, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import psutil
from pydantic import SecretStr

from benchmarks.support.database_queries import database_queries
from benchmarks.support.embedded_server import in_milliseconds
from benchmarks.support.http_load import Outcome, drive, request
from benchmarks.support.long_history import EVENTS_PER_DEPLOYMENT, History, create_history
from benchmarks.support.postgres_servers import SECRET, PostgresServers, postgres_servers
from benchmarks.support.query_plans import LONGEST_MS, PlanChecker, recorded_statements
from benchmarks.support.report import print_report
from hypervisor.api.pagination import encode_cursor
from hypervisor.app import create_app
from hypervisor.settings import Settings
from hypervisor.store.database import Database

_ROUNDS = 2


def main() -> None:
    """Measure and print the report. Exit with status 1 for a slow page or a bad plan."""
    arguments = _parse()
    rows, seconds = (20_000, 1.0) if arguments.small else (arguments.rows, arguments.seconds)
    with postgres_servers() as servers:
        history = asyncio.run(create_history(servers.database_url, servers.client, servers.cluster, rows))
        paths = _paths(history, rows)
        reads = {name: _read(servers, paths[name], arguments.clients, seconds) for name in paths}
        plans = asyncio.run(_explain(servers, history, {name: next(paths[name]) for name in paths}))
    slow = [
        name
        for name, sides in reads.items()
        if min(sides["one_client"]["best_ms"], sides["one_client"]["cpu_ms"]) >= LONGEST_MS
    ]
    figures = {
        "deployments": rows,
        "events": rows * EVENTS_PER_DEPLOYMENT,
        "clients": arguments.clients,
        "reads": reads,
        "slow": slow,
        **plans,
    }
    print_report("reads", figures)
    if slow or plans["bad_plans"]:
        sys.exit(1)


def _paths(history: History, rows: int) -> dict[str, Iterator[str]]:
    """Endless request paths by name, spread over the history."""
    numbers = random.Random(1)
    middle, end = encode_cursor(history.first + rows // 2), encode_cursor(history.first + 200)
    events = rows * EVENTS_PER_DEPLOYMENT

    def anywhere(template: str) -> Iterator[str]:
        while True:
            yield template.format(
                id=history.first + numbers.randrange(rows),
                number=numbers.randrange(20_000),
                team=numbers.randrange(100),
                busy=history.busy,
            )

    of_busy = f"/deployments?organization_id={history.busy}"
    past = f"/organizations/{history.busy}/events"
    templates = {
        "one": "/deployments/{id}",
        "newest": of_busy,
        "newest_middle": f"{of_busy}&cursor={middle}",
        "newest_end": f"{of_busy}&cursor={end}",
        "of_all_organizations": "/deployments",
        "of_a_quiet_organization": f"/deployments?organization_id={history.quiet}",
        "waiting": f"{of_busy}&state=QUEUED",
        "running": f"{of_busy}&state=RUNNING",
        "ended_middle": f"{of_busy}&state=SUCCEEDED&state=FAILED&cursor={middle}",
        "in_no_state": f"{of_busy}&state=STOPPED",
        "of_a_priority_middle": f"{of_busy}&priority=HIGH&cursor={middle}",
        "cancelled_of_a_priority_end": f"{of_busy}&state=CANCELLED&priority=HIGH&cursor={end}",
        "cancelled_of_another_priority": f"{of_busy}&state=CANCELLED&priority=CRITICAL",
        "of_a_cluster": f"/deployments?cluster_id={history.cluster}",
        "of_a_cluster_end": f"/deployments?cluster_id={history.cluster}&cursor={end}",
        "of_a_retired_cluster": f"/deployments?cluster_id={history.retired}",
        "of_a_cluster_in_no_priority": f"/deployments?cluster_id={history.second}&priority=7",
        "by_name": of_busy + "&name=job-{number}",
        "by_a_common_name_middle": f"{of_busy}&name=nightly&cursor={middle}",
        "by_a_common_name_in_no_state": f"{of_busy}&name=nightly&state=STOPPED",
        "by_label": of_busy + "&label=team=team-{team}",
        "by_label_in_no_state": of_busy + "&label=team=team-{team}&state=STOPPED",
        "history_of_one": "/deployments/{id}/events",
        "attempts_of_one": "/deployments/{id}/attempts",
        "history_of_all": past,
        "history_of_all_middle": f"{past}?after={events // 2}",
        "history_of_all_end": f"{past}?after={events - 200}",
        "decisions": f"/clusters/{history.cluster}/decisions",
        "cluster": f"/clusters/{history.cluster}",
    }
    return {name: anywhere(template) for name, template in templates.items()}


def _read(servers: PostgresServers, paths: Iterator[str], clients: int, seconds: float) -> dict[str, Any]:
    token = servers.token

    def prepare(_: int) -> bytes:
        return request("GET", next(paths), token)

    def read(count: int, within: float) -> Outcome:
        return asyncio.run(drive(servers.urls, prepare, clients=count, seconds=within, expected=200))

    many = read(clients, seconds)
    assert not many.refused, f"{many.refused} requests failed"
    alone: list[float] = []
    worked: list[float] = []
    # In rounds, so that background work of the database (a vacuum) affects only one of them.
    for _ in range(_ROUNDS):
        before = _processor_seconds()
        one = read(1, seconds / _ROUNDS)
        worked.append((_processor_seconds() - before) / max(1, len(one.latencies)))
        alone += one.latencies
    least = {"best_ms": round(1000 * min(alone), 1), "cpu_ms": round(1000 * min(worked), 1)}
    return {
        "per_second": round(many.rate, 1),
        "all_clients": in_milliseconds(many.latencies),
        "one_client": {**least, **in_milliseconds(alone)},
    }


def _processor_seconds() -> float:
    """The CPU seconds of all child processes: the API servers and the database."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


async def _explain(servers: PostgresServers, history: History, paths: dict[str, str]) -> dict[str, Any]:
    """By request and by query, the statements with bad plans and the time of the slowest statement.

    The app runs in this process, so that its statements are recorded with their parameters.
    """
    settings = Settings(
        database_url=servers.database_url,
        secret_key=SecretStr(SECRET),
        role="api",
        rate_limit="",
        data_dir=servers.scratch / "explain",
        default_runtime="simulated",
    )
    app = create_app(settings)
    found: dict[str, list[str]] = {}
    slowest: dict[str, float] = {}
    checker, database = PlanChecker(servers.database_url), Database(servers.database_url)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {servers.token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as http:
            for name, path in paths.items():
                with recorded_statements() as statements:
                    (await http.get(f"/api/v1{path}")).raise_for_status()
                found[name], slowest[name] = await checker.check(statements)
    for name, query in database_queries(history).items():
        with recorded_statements() as statements:
            await query(database)
        found[name], slowest[name] = await checker.check(statements)
    await checker.close()
    await database.close()
    return {
        "bad_plans": {name: why for name, why in found.items() if why},
        "slowest_statement_ms": {name: round(took, 1) for name, took in slowest.items()},
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="deployments, with ten events each (default 1,000,000)"
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per kind of read (default 5)")
    parser.add_argument(
        "--small", action="store_true", help="a quick run: 20,000 deployments, one second per kind of read"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
