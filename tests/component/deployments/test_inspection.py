"""Attempts, events, explanations, logs, and the live stream of an organization."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from hypervisor.api import streams
from hypervisor.client.deployments import ALL_LINES
from hypervisor.deployments.history import logs
from hypervisor.events.relay import EventRelay
from hypervisor.kernel.log_text import events_of, lines_of, piece_of
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.protocol import LaunchSpec, LogChunk, RuntimeUnavailable
from hypervisor.runtimes.simulated.read_only import ReadOnlySimulatedRuntime
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.store.database import Database
from hypervisor.store.tables import Attempt
from tests.support.api import Person, ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team
from tests.support.wait import PROMPT, eventually

DEPLOYMENTS = "/api/v1/deployments"


def path(deployment: dict[str, Any], below: str = "") -> str:
    return f"{DEPLOYMENTS}/{deployment['id']}{below}"


def parse_stream(text: str) -> list[dict[str, str]]:
    """The fields of server-sent events with data, without comments."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if "data" in fields:
            found.append(fields)
    return found


def pieces_of(answer: httpx2.Response) -> list[str]:
    """The pieces of a followed log."""
    pieces, is_partial = [], False
    for message in httpx2.EventSource(answer):
        if message.event == "log":
            pieces.append(piece_of(message.data, partial=is_partial))
        is_partial = message.event == "partial"
    return pieces


async def launch(team: Team, deployment: dict[str, Any], log: str, seconds: float) -> str:
    """Start the live attempt on the simulated runtime; returns its instance."""
    attempt = ok(await team.viewer.get(path(deployment, "/attempts")))["items"][-1]
    services = team.api.services
    # An API server only reads instances: this is the runtime of a scheduler of the same installation.
    runtime = SimulatedRuntime(services.settings.data_dir.absolute(), services.install_id, services.clock)
    labels = {"simulate/log": log, "simulate/duration": str(seconds)}
    await runtime.start(LaunchSpec(attempt["instance"], Resources(), labels=labels))
    return str(attempt["instance"])


@pytest.mark.parametrize("below", ["", "/explain", "/logs", "/attempts", "/events"])
async def test_a_request_reads_the_row_of_its_deployment_once(team: Team, below: str) -> None:
    cluster = await team.cluster()
    running = await team.running(cluster, "running", kind="job", required_gpu_count=1)
    with statements_of(team.api.services.database) as statements:
        response = await team.viewer.get(path(running, below))
    assert response.status_code == 200
    # The environment is read with the whole row only.
    assert len([one for one in statements if "deployments.env" in one]) == 1


async def test_a_deployment_shows_the_health_of_each_replica_and_starts_from_outside(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work")
    ((replica,), (attempt,)) = await _placements_and_attempts(team, work)
    assert (replica["health"], attempt["health"], attempt["restarted_at"]) == (None, None, None)
    restarted_at = team.api.clock.now()
    async with team.api.services.database.write() as session:
        await session.execute(update(Attempt).values(health="unhealthy", restarted_at=restarted_at))
    ((replica,), (attempt,)) = await _placements_and_attempts(team, work)
    assert (replica["health"], attempt["health"]) == ("unhealthy", "unhealthy")
    assert datetime.fromisoformat(attempt["restarted_at"]) == restarted_at


async def _placements_and_attempts(team: Team, deployment: dict[str, Any]) -> tuple[Any, Any]:
    attempts = ok(await team.viewer.get(path(deployment, "/attempts")))["items"]
    return (await team.get(deployment))["placements"], attempts


async def test_attempts_list_each_run(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work", kind="job", required_gpu_count=1, restart_policy="on-failure")
    await team.report(work, exit_code=3)
    team.api.clock.advance(600)
    await team.schedule(cluster)
    first, second = ok(await team.viewer.get(path(work, "/attempts")))["items"]
    assert (first["number"], first["outcome"], first["exit_code"]) == (1, "failed", 3)
    assert (first["node_name"], first["runtime"], len(first["gpu_indices"])) == ("node-1", "simulated", 1)
    assert first["finished_at"] is not None
    assert (second["number"], second["finished_at"]) == (2, None)
    page = ok(await team.viewer.get(path(work, "/attempts?limit=1")))
    rest = ok(await team.viewer.get(path(work, f"/attempts?limit=1&cursor={page['next_cursor']}")))
    assert [item["number"] for item in [*page["items"], *rest["items"]]] == [1, 2]
    seen = await team.get(work)
    assert (seen["attempts_made"], seen["retries_used"]) == (2, 1)
    assert (seen["node_name"], seen["gpu_indices"]) == ("node-1", second["gpu_indices"])


async def test_endpoints_are_those_of_the_live_attempt(team: Team) -> None:
    cluster = await team.cluster()
    web = await team.running(cluster, "web", ports=[8080])
    assert web["endpoints"] == []
    async with team.api.services.database.write() as session:
        from hypervisor.deployments.state.stop import live_attempts

        (attempt,) = (await live_attempts(session, [web["id"]]))[web["id"]]
        attempt.ports = [{"port": 8080, "host": "127.0.0.1", "host_port": 32768}]
    assert (await team.get(web))["endpoints"] == [
        {"port": 8080, "host": "127.0.0.1", "host_port": 32768, "url": "http://127.0.0.1:32768"}
    ]
    await team.report(web, exit_code=0)
    seen = await team.get(web)
    assert (seen["endpoints"], seen["node_name"]) == ([], None)


async def test_events_are_paged_oldest_first(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.ended(cluster, "work", 0)
    everything = await team.events(work)
    assert [event["to_state"] for event in everything] == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    assert [event["actor"] for event in everything] == [
        f"user:{team.developer.id}",
        "scheduler",
        "reconciler",
        "reconciler",
    ]
    page = ok(await team.viewer.get(path(work, "/events?limit=3")))
    rest = ok(await team.viewer.get(path(work, f"/events?limit=3&cursor={page['next_cursor']}")))
    assert [*page["items"], *rest["items"]] == everything


async def test_events_of_an_organization_are_its_own(team: Team) -> None:
    await team.cluster()
    await team.submit("work")
    events = f"/api/v1/organizations/{team.id}/events"
    items = ok(await team.viewer.get(f"{events}?limit=100"))["items"]
    assert {item["organization_id"] for item in items} == {team.id}
    later = ok(await team.viewer.get(f"{events}?after={items[-2]['id']}"))["items"]
    assert later == [items[-1]]
    refused(await team.outsider.get(events), 404, "organization_not_found")
    refused(await team.outsider.get(f"{events}/stream"), 404, "organization_not_found")


async def test_waiting_is_explained_by_the_scheduler_and_the_deployments_ahead(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "busy", required_cpu_cores=3.5)
    ahead = [await team.submit(f"w{number}", required_cpu_cores=2) for number in range(7)]
    last = await team.submit("last", required_cpu_cores=2)
    explanation = ok(await team.viewer.get(path(last, "/explain")))
    assert explanation["reason"]["code"] == "insufficient_cpu"
    assert explanation["reason"]["shortfall"]["cpu_cores"] == 1.5
    assert "number 8 in the queue" in explanation["sentence"]
    assert [one["deployment_id"] for one in explanation["ahead"]] == [one["id"] for one in ahead[:5]]
    blocked = await team.submit("blocked", depends_on=["last"])
    explanation = ok(await team.viewer.get(path(blocked, "/explain")))
    assert (explanation["queue_position"], explanation["ahead"]) == (None, [])
    assert explanation["dependencies"][0]["status"] == "waiting"
    assert "waits for last" in explanation["sentence"]


async def test_a_preemption_leaves_its_receipt_on_both_sides(team: Team) -> None:
    cluster = await team.cluster()
    low = await team.running(cluster, "low", priority="LOW", required_cpu_cores=4)
    high = await team.submit("high", priority="HIGH", required_cpu_cores=4)
    await team.schedule(cluster)
    for deployment, role in ((low, "victim"), (high, "preemptor")):
        (receipt,) = ok(await team.viewer.get(path(deployment, "/explain")))["receipts"]
        assert receipt["role"] == role
        assert receipt["preemptor"] == {"id": high["id"], "name": "high", "priority": 750}
        assert [victim["id"] for victim in receipt["victims"]] == [low["id"]]
        assert receipt["at"] == low["created_at"]


async def test_logs_without_an_attempt_are_empty(team: Team) -> None:
    await team.cluster()
    created = await team.submit("waits")
    answer = await team.viewer.get(path(created, "/logs"))
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["content-type"].startswith("text/plain")
    answer = await team.viewer.get(path(created, "/logs?follow=true"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert parse_stream(answer.text) == [{"event": "end", "data": "QUEUED"}]
    refused(await team.viewer.get(path(created, "/logs?attempt=1")), 404, "attempt_not_found")
    refused(await team.viewer.get(path(created, "/logs?tail=-1")), 422, "invalid_request")


async def test_logs_show_the_last_lines_of_the_chosen_attempt(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work", restart_policy="always")
    await launch(team, work, "one\ntwo\nthree", 3600)
    assert (await team.viewer.get(path(work, "/logs"))).text == "one\ntwo\nthree\n"
    assert (await team.viewer.get(path(work, "/logs?tail=2"))).text == "two\nthree\n"
    assert (await team.viewer.get(path(work, f"/logs?tail={ALL_LINES}"))).text == "one\ntwo\nthree\n"
    await team.report(work, exit_code=0)
    team.api.clock.advance(600)
    await team.schedule(cluster)
    await launch(team, work, "again", 3600)
    assert (await team.viewer.get(path(work, "/logs"))).text == "again\n"
    assert (await team.viewer.get(path(work, "/logs?attempt=1"))).text == "one\ntwo\nthree\n"


async def test_a_log_is_the_same_text_in_each_form(team: Team) -> None:
    log = "ep 1\rep 2\npage\fbreak\n\n\x1e\x85\u2028 語🙂\nwin\r\n" + "x" * 3_000_000
    cluster = await team.cluster()
    work = await team.running(cluster, "work")
    await launch(team, work, log, 0)
    assert (await team.viewer.get(path(work, "/logs"))).content == f"{log}\n".encode()
    assert (await team.viewer.get(path(work, "/logs?tail=2"))).text == f"win\r\n{log[-3_000_000:]}\n"
    assert (await team.viewer.get(path(work, "/logs?tail=0"))).text == ""
    assert (await team.viewer.get(path(work, "/logs?tail=50000"))).text == f"{log}\n"
    await team.report(work, exit_code=0)
    answer = await team.viewer.get(path(work, "/logs?follow=true&attempt=1"))
    assert list(lines_of(pieces_of(answer))) == log.split("\n")
    answer = await team.viewer.get(path(work, f"/logs?follow=true&attempt=1&tail={ALL_LINES}"))
    assert list(lines_of(pieces_of(answer))) == log.split("\n")
    answer = await team.viewer.get(path(work, "/logs?follow=true&attempt=1&tail=2"))
    assert list(lines_of(pieces_of(answer))) == log.split("\n")[-2:]


async def test_output_reaches_the_response_byte_for_byte(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [b"caf\xc3", b"\xa9 \xff\x00\r", b"\nno newline \xc3"]

    async def output(*_: Any, **__: Any) -> AsyncIterator[LogChunk]:
        for number, chunk in enumerate(chunks):
            yield LogChunk(chunk, str(number))

    monkeypatch.setattr(ReadOnlySimulatedRuntime, "logs", output)
    cluster = await team.cluster()
    work = await team.running(cluster, "work", kind="job")
    answer = await team.viewer.get(path(work, "/logs"))
    assert answer.content == b"".join(chunks)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    await team.report(work, exit_code=0)
    answer = await team.viewer.get(path(work, "/logs?follow=true&attempt=1"))
    assert pieces_of(answer) == ["café \ufffd\x00\r\n", "no newline \ufffd"]


async def test_an_unfinished_line_is_followed_while_the_workload_pauses(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar writes no line feed until it is complete."""
    sent = asyncio.Event()

    async def output(*_: Any, **__: Any) -> AsyncIterator[LogChunk]:
        yield LogChunk(b"whole\n1 %\xc3", "1")
        await sent.wait()
        yield LogChunk(b"\xa9\r2 %\n", "2")

    def count_events(pieces: list[str]) -> bytes:
        if pieces == ["1 %"]:
            sent.set()
        return events_of(pieces)

    monkeypatch.setattr(ReadOnlySimulatedRuntime, "logs", output)
    monkeypatch.setattr(logs, "UNFINISHED_SECONDS", 0.01)
    monkeypatch.setattr(logs, "events_of", count_events)
    cluster = await team.cluster()
    work = await team.running(cluster, "work", kind="job")
    await team.report(work, exit_code=0)
    async with asyncio.timeout(PROMPT):
        answer = await team.viewer.get(path(work, "/logs?follow=true&attempt=1"))
    assert pieces_of(answer) == ["whole\n", "1 %", "é\r2 %\n"]


async def test_followed_logs_end_with_the_state(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work", kind="job")
    await launch(team, work, "one\ntwo\rthree", 0)
    await team.report(work, exit_code=0)
    answer = await team.viewer.get(path(work, "/logs?follow=true&attempt=1"))
    assert "event: log\ndata: one\n\n" in answer.text
    assert parse_stream(answer.text)[-1] == {"event": "end", "data": "SUCCEEDED"}


async def test_an_unreachable_engine_is_reported(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work")

    async def unreachable(*_: Any, **__: Any) -> Any:
        raise RuntimeUnavailable("connection refused")

    async def no_lines(*_: Any, **__: Any) -> AsyncIterator[bytes]:
        raise RuntimeUnavailable("connection refused")
        yield b""

    monkeypatch.setattr(ReadOnlySimulatedRuntime, "observe", unreachable)
    monkeypatch.setattr(ReadOnlySimulatedRuntime, "logs", no_lines)
    for query in ("", "?follow=true"):
        problem = refused(await team.viewer.get(path(work, f"/logs{query}")), 503, "runtime_unavailable")
        assert "connection refused" in problem["detail"]


async def streamed(
    team: Team, person: Person, query: str, during: Callable[[], Any], headers: dict[str, str] | None = None
) -> list[dict[str, str]]:
    """The events in the stream of an organization during `during`, until the server stops."""
    url = f"/api/v1/organizations/{team.id}/events/stream{query}"
    authorization = {"Authorization": f"Bearer {person.access_token}"}
    request = asyncio.create_task(team.api.http.get(url, headers={**authorization, **(headers or {})}))
    relay = team.api.services.relay

    await eventually(lambda: relay.listeners == 1, what="the stream is open")
    last = await during()
    await eventually(lambda: relay.last_event_id >= last, what="the events are passed on")
    await eventually(lambda: not any(waiting(relay)), what="the events are taken")
    for _ in range(100):
        # Iterations of the event loop, until the events are in the response.
        await asyncio.sleep(0)
    team.api.services.stopping.set()
    answer = await asyncio.wait_for(request, PROMPT)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parse_stream(answer.text)


def waiting(relay: EventRelay) -> list[int]:
    """The number of pending events of each listener."""
    return [one.waiting for listeners in relay._subscriptions.values() for one in listeners]


async def newest_event(team: Team) -> int:
    items = ok(await team.viewer.get(f"/api/v1/organizations/{team.id}/events?limit=100"))["items"]
    return int(items[-1]["id"])


async def test_the_stream_delivers_events(team: Team) -> None:
    await team.cluster()
    body = {"name": "theirs", "total_cpu_cores": 1, "total_ram_gb": 1}

    async def during() -> int:
        await team.submit("one")
        ok(await team.outsider.post("/api/v1/clusters", body), 201)
        two = await team.submit("two")
        await team.command(two, "cancel")
        return await newest_event(team)

    events = await streamed(team, team.viewer, "", during)
    data = [json.loads(event["data"]) for event in events]
    assert [(one["type"], one["to_state"]) for one in data] == [
        ("deployment.state", "QUEUED"),
        ("deployment.state", "QUEUED"),
        ("deployment.state", "CANCELLED"),
    ]
    assert [event["event"] for event in events] == ["deployment.state"] * 3
    assert [event["id"] for event in events] == [str(one["id"]) for one in data]
    assert {one["organization_id"] for one in data} == {team.id}


@pytest.mark.parametrize("how", ["logout", "removal"])
async def test_a_stream_ends_with_the_login_or_the_membership(
    team: Team, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(streams, "ACCESS_CHECK_SECONDS", 0.05)
    reader = await team.api.member(team.admin, team.id, "viewer")
    url = f"/api/v1/organizations/{team.id}/events/stream"
    headers = {"Authorization": f"Bearer {reader.access_token}"}
    request = asyncio.create_task(team.api.http.get(url, headers=headers))
    await eventually(lambda: team.api.services.relay.listeners == 1, what="the stream is open")
    if how == "logout":
        await reader.post("/api/v1/auth/logout", {"refresh_token": reader.refresh_token})
    else:
        await team.admin.delete(f"/api/v1/organizations/{team.id}/members/{reader.id}")
    assert (await asyncio.wait_for(request, PROMPT)).status_code == 200
    assert team.api.services.relay.listeners == 0


async def test_a_returning_listener_gets_missed_events_once(team: Team) -> None:
    await team.cluster()
    first = await team.submit("first")
    seen = (await team.events(first))[-1]["id"]
    missed = await team.submit("missed")

    async def during() -> int:
        await team.submit("live")
        return await newest_event(team)

    events = await streamed(team, team.viewer, "", during, {"Last-Event-ID": str(seen)})
    deployments = [json.loads(event["data"])["deployment_id"] for event in events]
    assert deployments[0] == missed["id"]
    assert len(deployments) == len(set(deployments)) == 2


async def test_events_of_other_servers_are_found_without_a_hint(team: Team) -> None:
    await team.cluster()
    created = await team.submit("made")
    elsewhere = Database(team.api.services.settings.database_url)

    async def during() -> int:
        from hypervisor.events.log import record

        async with elsewhere.write() as session:
            record(
                session,
                organization_id=team.id,
                at=team.api.clock.now(),
                actor="scheduler",
                type="other.process",
                message="hello",
                deployment_id=created["id"],
            )
        return await newest_event(team)

    try:
        events = await streamed(team, team.viewer, "", during)
    finally:
        await elsewhere.close()
    assert [event["event"] for event in events] == ["other.process"]
