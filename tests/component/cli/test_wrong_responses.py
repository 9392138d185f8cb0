"""A response whose values have wrong types is reported as one of another server."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypervisor.cli.commands import ps
from hypervisor.cli.main import run
from tests.component.cli.described import AMOUNTS, FIRST_ID, Described
from tests.unit.client.scripted import Request, Response, scripted

ID = str(FIRST_ID)
API = Described("train", "no room")
WRONG: tuple[Any, ...] = ({"a": 1}, True, 10**400, "x", [1], "2026-99-99T00:00:00Z", None)
MORE = {
    "labels": {"team": "ml"},
    "reason_data": {"shortfall": AMOUNTS, "nearest_node": "n1"},
    "checkpoint": {"progress": 0.5, "step": 3},
    "checkpoint_at": "2026-01-01T10:00:00+00:00",
    "placements": [],
    "command": ["python", "t.py"],
}
COMMANDS = (
    ("ps",),
    ("show", ID),
    ("attempts", ID),
    ("events",),
    ("queue", ID),
    ("cluster", "show", "train"),
    ("cluster", "fragmentation", ID),
    ("cluster", "shares"),
    ("org", "members"),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    result = copy.deepcopy(content)
    part = result
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return result


def answer(request: Request) -> Any:
    reply = API.respond(request)
    content: Any = json.loads(reply.body)
    for item in content.get("items", [content]):
        if "required_cpu_cores" in item and "kind" in item:
            item.update(MORE)
    return content


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_value_of_a_wrong_type_never_makes_a_command_fail_unexpectedly(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    answers: dict[str, Any] = {}

    def record(request: Request) -> Response:
        answers[request.path] = answer(request)
        return Response(200, answers[request.path])

    with scripted(record) as server:
        run([*command, "--url", server.url])
        capsys.readouterr()
    current: dict[str, Any] = {}
    faults: list[str] = []
    with scripted(lambda request: Response(200, current.get(request.path))) as server:
        for url, content in answers.items():
            for index, path in enumerate(places(content)):
                value = WRONG[index % len(WRONG)]
                current = {**answers, url: changed(content, path, value)}
                code = run([*command, "--url", server.url])
                error = capsys.readouterr().err
                if "unexpected error" in error or (code and not error.startswith("error: ")):
                    faults.append(f"{url} {path} = {value!r:.30}: {error}")
    assert not faults, "\n".join(faults)


def test_a_fault_of_this_program_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(ps, "deployments_table", lambda found: found[0]["name"] + 1)
    with scripted(lambda request: Response(200, answer(request))) as server:
        assert run(["ps", "--url", server.url]) == 1
    assert "unexpected error, please report it: TypeError" in capsys.readouterr().err
