"""Metrics, alerts and logs of a real server after real work, and its stop."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from hypervisor.client import Client
from hypervisor.client.deployments import has_ended
from tests.e2e.cli_user import PASSWORD
from tests.support.promql import Exposed, complaints, parse
from tests.support.server import HypervisorServer, running_server
from tests.support.wait import PROMPT, eventually_sync

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/hypervisor.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
GUIDE = ROOT / "docs/operations.md"
OF_THE_LIBRARY = ("process_", "python_")
ADDED_BY_PROMETHEUS = {"instance"}
OUR_ID = "look-for-me"


@dataclass
class Observed:
    """A server with past work, its client, its metrics, and its response to an invalid request."""

    server: HypervisorServer
    client: Client
    exposed: Exposed
    nonsense: httpx2.Response


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    settings = {"ACCESS_LOG": "true", "LOG_FORMAT": "json", "GRACEFUL_STOP_SECONDS": "1"}
    with (
        running_server(tmp_path_factory.mktemp("observed"), **settings) as server,
        Client(server.url) as client,
    ):
        log_in(client)
        work(client)
        exposed = Exposed.parse(httpx2.get(f"{server.url}/metrics").text)
        nonsense = httpx2.get(f"{server.url}/nowhere", headers={"X-Request-ID": OUR_ID})
        yield Observed(server, client, exposed, nonsense)


def log_in(client: Client) -> None:
    client.accounts.register("ada", "ada@example.com", PASSWORD)
    client.accounts.login("ada", PASSWORD)
    client.organizations.create("Team")


def work(client: Client) -> None:
    """Run a deployment that is evicted, one that succeeds, and one that cannot be launched."""
    client.clusters.create("lab", {"total_cpu_cores": 1, "total_ram_gb": 1, "total_gpu_count": 1})
    low = client.deployments.create({"name": "low", "command": ["sleep", "300"], "priority": "LOW"})
    client.deployments.wait(low["id"], lambda each: each["status"] == "RUNNING", timeout=PROMPT)
    for name, command in (("high", ["true"]), ("broken", ["/nowhere/to/be/found"])):
        fields = {"name": name, "kind": "job", "command": command, "priority": "HIGH"}
        created = client.deployments.create(fields)
        client.deployments.wait(created["id"], has_ended, timeout=PROMPT)


def test_every_query_of_the_dashboard_has_a_result(observed: Observed) -> None:
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    for panel in panels:
        for target in panel["targets"]:
            assert list(complaints(target["expr"], observed.exposed)) == [], panel["title"]
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = parse(target["expr"]).grouped_by | ADDED_BY_PROMETHEUS
            assert shown <= kept, f"{panel['title']}: the legend names what the query drops"


def test_the_cluster_can_be_chosen_on_the_dashboard(observed: Observed) -> None:
    (variable,) = json.loads(DASHBOARD.read_text())["templating"]["list"]
    query = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert query is not None
    metric, label = query.groups()
    assert observed.exposed.labels[metric][label] == {"1"}


def test_every_alert_uses_existing_metrics_and_has_a_link(observed: Observed) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert len(rules) == 5
    guide = GUIDE.read_text()
    for rule in rules:
        assert list(complaints(rule["expr"], observed.exposed)) == [], rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert f"\n### {rule['alert']}\n" in guide
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_guide_lists_all_metrics(observed: Observed) -> None:
    listed = set(re.findall(r"^\| `(hypervisor_\w+)`", GUIDE.read_text(), re.MULTILINE))
    there = {name for name in observed.exposed.labels if not name.startswith(OF_THE_LIBRARY)}
    assert listed == {re.sub(r"_(bucket|count|sum)$", "", name) for name in there}


def test_a_log_line_can_be_found_by_the_id_of_its_request(observed: Observed) -> None:
    assert observed.nonsense.headers["X-Request-ID"] == observed.nonsense.json()["request_id"] == OUR_ID

    def lines() -> list[dict[str, Any]]:
        return [each for each in log_of(observed.server) if each.get("request_id") == OUR_ID]

    (found,) = eventually_sync(lines, what="the line of the request")
    assert (found["event"], found["status"], found["route"]) == ("request.answered", 404, "(none)")
    assert {each.get("path") for each in log_of(observed.server)}.isdisjoint(("/readyz", "/metrics"))


def log_of(server: HypervisorServer) -> list[dict[str, Any]]:
    lines = server.log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def test_the_lines_about_a_deployment_can_be_found(observed: Observed) -> None:
    related = [each for each in log_of(observed.server) if each.get("deployment_id") == 1]
    requests = [(each["method"], each["route"]) for each in related if each["event"] == "request.answered"]
    assert requests[0] == ("POST", "/api/v1/deployments")
    assert ("GET", "/api/v1/deployments/{deployment_id}") in requests


def test_a_request_without_end_does_not_delay_a_stop(observed: Observed) -> None:
    process = observed.server.process
    assert process is not None
    with slow_request(observed.server, observed.client) as connection:
        process.send_signal(signal.SIGTERM)
        process.wait(PROMPT)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"stopping"' in answer
    assert "Traceback" not in observed.server.log.read_text()


def test_a_stop_ends_streams_and_completes_open_requests(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "server", GRACEFUL_STOP_SECONDS="300") as server,
        Client(server.url) as client,
    ):
        log_in(client)
        (organization,) = client.organizations.all()
        path = f"/organizations/{organization['id']}/events/stream"
        with slow_request(server, client) as connection:
            with client._transport.stream(path) as stream:
                process = server.process
                assert process is not None
                process.send_signal(signal.SIGTERM)
                for _ in stream.iter_lines():
                    pass
            assert process.poll() is None
            connection.sendall(LAST)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Too late?" in answer
        process.wait(PROMPT)
        assert "Traceback" not in server.log.read_text()


BODY = b'{"name": "Too late?"}'
FIRST, LAST = BODY[:5], BODY[5:]


def slow_request(server: HypervisorServer, client: Client) -> socket.socket:
    """An open request whose body the server is reading; `LAST` is not sent yet."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PROMPT)
    tokens = client.tokens.load()
    assert tokens is not None
    head = (
        f"POST /api/v1/organizations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tokens.access}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(FIRST)
    return connection
