"""Remarks of the command line: nothing runs, and a command that works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hypervisor.cli.demo.demo import own_command
from hypervisor.cli.main import run
from tests.unit.client.scripted import Response, scripted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch", "--once"], "No deployment is queued or running (-a shows ended ones too)."),
        (["watch", "--once", "-a"], "There is no deployment."),
        (["ps"], "No deployment is queued or running (-a lists ended ones too)."),
        (["ps", "-a"], "No deployment matches."),
    ],
)
def test_an_empty_list_is_a_sentence_and_no_header(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    with scripted(lambda _request: Response(200, {"items": [], "next_cursor": None})) as server:
        assert run([*arguments, "--url", server.url]) == 0
    output = capsys.readouterr()
    assert (output.out + output.err).strip() == message


def test_the_own_command_works_in_this_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "hypervisor"
    script.write_text("#!/bin/sh")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == "hypervisor"
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert own_command() == str(script)
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py"])
    assert own_command() == f"{sys.executable} -m hypervisor"
