"""Lists of deployments: running ones first, and a remark when there are more."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hypervisor.cli.main import run
from tests.unit.cli.test_failures import WAITING
from tests.unit.client.scripted import Request, Response, scripted

RUNNING_ID = 3
NOTE = "There are more"


def respond(request: Request) -> Response:
    """A running deployment that is older than 69 queued ones."""
    url = urlsplit(request.path)
    if url.path.endswith("/clusters/1"):
        return Response(200, {"id": 1, "name": "lab"})
    states = set(parse_qs(url.query).get("state", []))
    everything = [
        {**WAITING, "id": number, "status": "RUNNING" if number == RUNNING_ID else "QUEUED"}
        for number in range(RUNNING_ID + 69, RUNNING_ID - 1, -1)
    ]
    found = [one for one in everything if not states or one["status"] in states]
    (limit,) = parse_qs(url.query).get("limit", ["50"])
    begin = int(parse_qs(url.query).get("cursor", ["0"])[0])
    end = begin + int(limit)
    more = str(end) if end < len(found) else None
    return Response(200, {"items": found[begin:end], "next_cursor": more})


@pytest.fixture(autouse=True)
def _logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    with scripted(respond) as server:
        assert run([*words, "--url", server.url]) == 0
    output = capsys.readouterr()
    return output.out, output.err


@pytest.mark.parametrize(("words", "count"), [(("ps",), 50), (("ps", "--limit", "2"), 2), (("ps", "-a"), 50)])
def test_a_list_that_is_cut_says_so(
    words: tuple[str, ...], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, remark = output_of(capsys, "--json", *words)
    assert len(json.loads(listed)) == count
    assert f"{NOTE}; these are the first {count}" in remark
    assert NOTE in output_of(capsys, *words)[1]


@pytest.mark.parametrize("limit", ["70", "71", "1000"])
def test_a_whole_list_has_no_remark(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed, remark = output_of(capsys, "--json", "ps", "--limit", limit)
    assert (len(json.loads(listed)), remark) == (70, "")


def test_running_deployments_come_before_queued_ones(capsys: pytest.CaptureFixture[str]) -> None:
    listed, _ = output_of(capsys, "--json", "ps")
    assert [one["id"] for one in json.loads(listed)][:2] == [RUNNING_ID, RUNNING_ID + 69]
    shown, _ = output_of(capsys, "watch", "--once")
    assert "RUNNING" in shown
    assert f"{NOTE}; these are the first 40" in shown


def test_a_queue_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    listed, remark = output_of(capsys, "--json", "queue", "1", "--limit", "5")
    assert len(json.loads(listed)) == 5
    assert f"{NOTE}; these are the first 5" in remark
