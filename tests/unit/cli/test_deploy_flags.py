"""Options of `deploy` that determine each other, against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hypervisor.cli.main import run
from tests.unit.cli.test_failures import WAITING
from tests.unit.client.scripted import Response, scripted


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        (["--job", "--retries", "1"], "on-failure"),
        (["--job", "--retries", "1", "--restart", "always"], "always"),
        (["--job", "--retries", "0"], None),
        (["--job", "--retries", "1", "--retry-on", "3"], None),
        (["--retries", "1"], None),
    ],
)
def test_retries_of_a_job_imply_a_restart_on_failure(
    options: list[str], policy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    with scripted(lambda _request: Response(201, WAITING)) as server:
        assert run(["deploy", "a", *options, "--url", server.url]) == 0
    assert json.loads(server.requests[-1].body).get("restart_policy") == policy


def test_retries_without_restarts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "a", "--job", "--retries", "1", "--restart", "never"]) == 2
    assert "--retries needs --restart on-failure or always, not never" in capsys.readouterr().err


def test_a_share_takes_a_name_or_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    organizations = {"items": [{"id": 8, "name": "B team"}], "next_cursor": None}
    amounts = {"cpu_cores": 0, "ram_gb": 0, "gpu_count": 0}
    share = {**organizations, "id": 1, "name": "lab", "guaranteed": amounts}
    with scripted(lambda _request: Response(200, share)) as server:
        for name, id_ in (("b team", 8), ("9", 9)):
            assert run(["cluster", "share", "1", name, "--url", server.url]) == 0
            assert json.loads(server.requests[-1].body)["organization_id"] == id_
        assert run(["cluster", "share", "1", "C", "--url", server.url]) == 1
    assert "write the id of the other organization" in capsys.readouterr().err
