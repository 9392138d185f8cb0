"""Error lines and exit codes of failed commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.failures import describe
from hypervisor.cli.main import run
from hypervisor.client import ApiError
from hypervisor.client.models import Deployment
from tests.unit.client.scripted import Request, Response, scripted

NOW = "2026-01-01T10:00:00Z"
WAITING: Deployment = {
    "id": 7,
    "name": "train",
    "kind": "job",
    "status": "QUEUED",
    "priority": 500,
    "required_cpu_cores": 1,
    "required_ram_gb": 1,
    "required_gpu_count": 0,
    "created_at": NOW,
    "reason": "every node is cordoned",
}


def log_stream(events: str) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        if "/logs" in request.path:
            return Response(200, events, "text/event-stream")
        return Response(200, WAITING)

    return respond


def test_a_server_error_is_reported_with_the_request_id() -> None:
    failed = ApiError(500, "internal", "Something went wrong here.", {"request_id": "31cde610"})
    assert describe(failed) == (1, "Something went wrong here. (see request 31cde610 in the server's log)")
    assert describe(ApiError(404, "x", "No such thing.", {"request_id": "1"})) == (1, "No such thing.")


def test_a_missing_cluster_names_the_option() -> None:
    failed = ApiError(422, "cluster_id_required", "Give cluster_id: 1 (a), 2 (b).")
    assert describe(failed) == (1, "Set --cluster: 1 (a), 2 (b).")


def test_every_refused_field_is_printed() -> None:
    errors = [{"loc": ["body", "ports", 1], "msg": "too large"}, {"loc": ["body"], "msg": "odd"}]
    failed = ApiError(422, "invalid_request", "ports.1: too large. (1 more)", {"errors": errors})
    assert describe(failed) == (1, "ports.1: too large\nerror: the request: odd")
    odd = ApiError(422, "invalid_request", "Odd.", {"errors": [5, {"loc": 1}, {"loc": []}]})
    assert describe(odd) == (1, "Odd.")


@pytest.mark.parametrize(
    ("events", "code", "message"),
    [
        ("event: log\ndata: line\n\nevent: end\ndata: SUCCEEDED\n\n", 0, "train: SUCCEEDED"),
        ("event: log\ndata: line\n\n", 1, "the server ended the stream"),
        (
            "event: log\ndata: line\n\nevent: error\ndata: no engine\n\nevent: end\ndata: RUNNING\n\n",
            1,
            "the log stream of train failed: no engine",
        ),
        ("event: log\ndata: line\n\nevent: end\ndata: WHAT\n\n", 1, "'WHAT' in the stream of a log"),
        ("event: log\ndata: line\n\nevent: end\ndata:\n\n", 1, "'' in the stream of a log"),
        ("event: log\ndata: line\n\nevent: position\ndata: \u00e9\n\n", 1, "in the stream of a log"),
        ("event: log\ndata: line\n\nevent: end\ndata: DELETED\n\n", 0, "train: DELETED"),
    ],
)
def test_a_followed_log_ends_with_a_message(
    events: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    with scripted(log_stream(events)) as server:
        assert run(["logs", "-f", "7", "--url", server.url, "--retry-seconds", "0"]) == code
    output = capsys.readouterr()
    assert output.out == "line\n"
    assert message in output.err


@pytest.mark.parametrize(
    ("code", "token", "line"),
    [
        (
            "not_authenticated",
            None,
            "you are not logged in to this server: use `hypervisor login`, or `hypervisor register`",
        ),
        ("session_ended", None, "Over. (log in with `hypervisor login`)"),
        (
            "invalid_token",
            "x",
            "Over. (correct HYPERVISOR_TOKEN, or unset it and log in with `hypervisor login`)",
        ),
        ("invalid_credentials", None, "Over."),
    ],
)
def test_a_missing_session_is_explained(
    code: str, token: str | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERVISOR_TOKEN", token or "")
    assert describe(ApiError(401, code, "Over.")) == (1, line)


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        (
            "Drain it first, or remove it with ?force=true, which",
            "Drain it first, or remove it with --force, which",
        ),
        (
            "Create one with POST .../regenerate-invite.",
            "Create one with `hypervisor org invite --regenerate`.",
        ),
    ],
)
def test_a_refusal_advises_what_the_command_line_has(detail: str, line: str) -> None:
    assert describe(ApiError(409, "x", detail)) == (1, line)


def test_a_list_without_a_nearest_node_shows_the_reason() -> None:
    short = {"shortfall": {"cpu_cores": 1, "ram_gb": 1, "gpu_count": 0}}
    for nearest, message in ((None, "every node is cordoned"), ("n1", "1 CPU, 1 GB short on n1")):
        deployment: Deployment = {**WAITING, "reason_data": {**short, "nearest_node": nearest}}
        ((*_, reason),) = deployments_table([deployment]).rows
        assert reason.plain == message
