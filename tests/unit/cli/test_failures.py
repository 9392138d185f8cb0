"""What people are told when a command cannot do what was asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.cli.core.deployments_table import deployments_table
from hypervisor.cli.core.failures import describe
from hypervisor.cli.main import run
from hypervisor.client import ApiError
from hypervisor.client.models import Deployment
from tests.unit.client.scripted import Answer, Request, scripted

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


def following(events: str) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        if "/logs" in request.path:
            return Answer(200, events, "text/event-stream")
        return Answer(200, WAITING)

    return answer


def test_a_failure_of_the_server_is_told_with_the_request_that_its_log_names() -> None:
    failed = ApiError(500, "internal", "Something went wrong here.", {"request_id": "31cde610"})
    assert describe(failed) == (1, "Something went wrong here. (request 31cde610 in the server's log)")
    assert describe(ApiError(404, "x", "No such thing.", {"request_id": "1"})) == (1, "No such thing.")


@pytest.mark.parametrize(
    ("events", "code", "told"),
    [
        ("event: log\ndata: line\n\nevent: end\ndata: SUCCEEDED\n\n", 0, "train: SUCCEEDED"),
        ("event: log\ndata: line\n\n", 1, "cut off before the end of train"),
        (
            "event: log\ndata: line\n\nevent: error\ndata: no engine\n\nevent: end\ndata: RUNNING\n\n",
            1,
            "the log of train ends here: no engine",
        ),
    ],
)
def test_a_followed_log_tells_how_it_ended(
    events: str,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    with scripted(following(events)) as server:
        assert run(["logs", "-f", "7", "--url", server.url]) == code
    seen = capsys.readouterr()
    assert seen.out == "line\n"
    assert told in seen.err


def test_a_list_names_no_node_where_none_is_nearest() -> None:
    short = {"shortfall": {"cpu_cores": 1, "ram_gb": 1, "gpu_count": 0}}
    for nearest, told in ((None, "every node is cordoned"), ("n1", "1 CPU, 1 GB short on n1")):
        one: Deployment = {**WAITING, "reason_data": {**short, "nearest_node": nearest}}
        (*_, reasons) = deployments_table([one], 200).columns
        assert [str(cell) for cell in reasons.cells] == [told]
