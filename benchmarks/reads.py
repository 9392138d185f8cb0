"""Reading from a long history: latencies under 16 clients, and the plans that PostgreSQL makes.

`python -m benchmarks.reads` fills a PostgreSQL with 1,000,000 deployments of one organization, as many
attempts and 10,000,000 events (minutes, some gigabytes), then asks two API replicas for single deployments,
and for first, middle and last pages of lists with every filter and of histories. It prints one JSON line. It
fails where a statement behind one of these answers, or one of the loops, reads a large table from end to end
or grows with the history, or where a page takes one client 50 ms or longer: by its quickest answer, or by the
processor time of servers and database for one, whichever is less, because others may use the machine.
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

from benchmarks.support.database_queries import questions
from benchmarks.support.embedded_server import in_milliseconds
from benchmarks.support.http_load import Outcome, drive, request
from benchmarks.support.long_history import EVENTS_EACH, History, grow
from benchmarks.support.postgres_servers import SECRET, Production, production
from benchmarks.support.query_plans import LONGEST_MS, Judge, heard
from benchmarks.support.report import print_report
from hypervisor.api.pagination import encode_cursor
from hypervisor.app import create_app
from hypervisor.settings import Settings
from hypervisor.store.database import Database

_ROUNDS = 2


def main() -> None:
    """Measure and print; exit 1 when a promise is broken."""
    arguments = _parse()
    rows, seconds = (20_000, 1.0) if arguments.small else (arguments.rows, arguments.seconds)
    with production() as prepared:
        history = asyncio.run(grow(prepared.database_url, prepared.client, prepared.cluster, rows))
        paths = _paths(history, rows)
        reads = {name: _read(prepared, paths[name], arguments.clients, seconds) for name in paths}
        plans = asyncio.run(_explain(prepared, history, {name: next(paths[name]) for name in paths}))
    slow = [
        name
        for name, sides in reads.items()
        if min(sides["one_client"]["best_ms"], sides["one_client"]["cpu_ms"]) >= LONGEST_MS
    ]
    figures = {
        "deployments": rows,
        "events": rows * EVENTS_EACH,
        "clients": arguments.clients,
        "reads": reads,
        "slow": slow,
        **plans,
    }
    print_report("reads", figures)
    if slow or plans["bad_plans"]:
        sys.exit(1)


def _paths(history: History, rows: int) -> dict[str, Iterator[str]]:
    """Endless paths to read by the name of what they ask for, spread over the history."""
    numbers = random.Random(1)
    middle, end = encode_cursor(history.first + rows // 2), encode_cursor(history.first + 200)
    events = rows * EVENTS_EACH

    def anywhere(template: str) -> Iterator[str]:
        while True:
            yield template.format(
                id=history.first + numbers.randrange(rows),
                number=numbers.randrange(20_000),
                team=numbers.randrange(100),
                busy=history.busy,
            )

    mine = f"/deployments?organization_id={history.busy}"
    past = f"/organizations/{history.busy}/events"
    templates = {
        "one": "/deployments/{id}",
        "newest": mine,
        "newest_middle": f"{mine}&cursor={middle}",
        "newest_end": f"{mine}&cursor={end}",
        "of_all_organizations": "/deployments",
        "of_a_quiet_organization": f"/deployments?organization_id={history.quiet}",
        "waiting": f"{mine}&state=QUEUED",
        "running": f"{mine}&state=RUNNING",
        "ended_middle": f"{mine}&state=SUCCEEDED&state=FAILED&cursor={middle}",
        "in_no_state": f"{mine}&state=STOPPED",
        "of_a_priority_middle": f"{mine}&priority=HIGH&cursor={middle}",
        "cancelled_of_a_priority_end": f"{mine}&state=CANCELLED&priority=HIGH&cursor={end}",
        "cancelled_of_another_priority": f"{mine}&state=CANCELLED&priority=CRITICAL",
        "of_a_cluster": f"/deployments?cluster_id={history.cluster}",
        "of_a_cluster_end": f"/deployments?cluster_id={history.cluster}&cursor={end}",
        "of_a_retired_cluster": f"/deployments?cluster_id={history.retired}",
        "of_a_cluster_in_no_priority": f"/deployments?cluster_id={history.second}&priority=7",
        "by_name": mine + "&name=job-{number}",
        "by_a_common_name_middle": f"{mine}&name=nightly&cursor={middle}",
        "by_a_common_name_in_no_state": f"{mine}&name=nightly&state=STOPPED",
        "by_label": mine + "&label=team=team-{team}",
        "by_label_in_no_state": mine + "&label=team=team-{team}&state=STOPPED",
        "history_of_one": "/deployments/{id}/events",
        "attempts_of_one": "/deployments/{id}/attempts",
        "history_of_all": past,
        "history_of_all_middle": f"{past}?after={events // 2}",
        "history_of_all_end": f"{past}?after={events - 200}",
        "decisions": f"/clusters/{history.cluster}/decisions",
        "cluster": f"/clusters/{history.cluster}",
    }
    return {name: anywhere(template) for name, template in templates.items()}


def _read(prepared: Production, paths: Iterator[str], clients: int, seconds: float) -> dict[str, Any]:
    token = prepared.token

    def prepare(_: int) -> bytes:
        return request("GET", next(paths), token)

    def read(count: int, within: float) -> Outcome:
        return asyncio.run(drive(prepared.urls, prepare, clients=count, seconds=within, expected=200))

    many = read(clients, seconds)
    assert not many.refused, f"{many.refused} requests failed"
    alone: list[float] = []
    worked: list[float] = []
    # In rounds, so that what the database does for itself in between (a vacuum) falls into one of them.
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
    """What all processes below this one have used: the API servers and the database."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


async def _explain(prepared: Production, history: History, paths: dict[str, str]) -> dict[str, Any]:
    """By path and by question, the statements whose plan grows with the history, and how long the slowest
    statement took. The app runs in this process, so that its statements can be heard with their parameters.
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
    found: dict[str, list[str]] = {}
    slowest: dict[str, float] = {}
    judge, database = Judge(prepared.database_url), Database(prepared.database_url)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        headers = {"Authorization": f"Bearer {prepared.token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as http:
            for name, path in paths.items():
                with heard() as statements:
                    (await http.get(f"/api/v1{path}")).raise_for_status()
                found[name], slowest[name] = await judge.look(statements)
    for name, ask in questions(history).items():
        with heard() as statements:
            await ask(database)
        found[name], slowest[name] = await judge.look(statements)
    await judge.close()
    await database.close()
    return {
        "bad_plans": {name: why for name, why in found.items() if why},
        "slowest_statement_ms": {name: round(took, 1) for name, took in slowest.items()},
    }


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
