"""The first steps of the README work as printed."""

from __future__ import annotations

import re
import shlex
import subprocess
from http import HTTPStatus
from pathlib import Path

import httpx2
import pytest
import yaml

from hypervisor.settings import Settings
from tests.e2e.cli_user import CliUser
from tests.support.server import HypervisorServer
from tests.support.wait import eventually_sync

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTED_URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_curl_lines_work_one_after_another(server: HypervisorServer) -> None:
    printed = "\n".join(blocks("bash"))
    assert PRINTED_URL in printed
    script = "set -euo pipefail\n" + printed.replace(PRINTED_URL, server.url)

    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=200, check=False, cwd=server.folder
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert "hello from " in done.stdout
    assert '"invite_code"' in done.stdout
    assert '"deployment.state"' in done.stdout
    assert "SUCCEEDED" in done.stdout


@pytest.mark.slow
def test_the_command_lines_and_the_yaml_work_one_after_another(
    server: HypervisorServer, tmp_path: Path
) -> None:
    user = CliUser(tmp_path / "home", server.url)
    user.home.mkdir()
    (lines,) = (block for block in blocks("console") if "register ada" in block)
    outputs = {}
    for line in lines.splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        assert program == "hypervisor"
        command = arguments[0]
        if command == "explain":
            eventually_sync(lambda: user.run_json("show", "train")["status"] == "RUNNING")
        arguments += {"register": ["--email", "ada@example.com"], "watch": ["--once"]}.get(command, [])
        outputs[command] = user.run_ok(*arguments).stdout
    assert outputs["logs"] == "hello\n"
    assert "RUNNING" in outputs["explain"]
    assert "train" in outputs["watch"]

    (printed,) = blocks("yaml")
    (user.home / "work.yaml").write_text(printed)
    user.run_ok("deploy", "-f", "work.yaml")
    eventually_sync(lambda: user.run_json("show", "web")["status"] == "RUNNING")
    assert user.run_json("show", "prepare")["status"] == "SUCCEEDED"
    (endpoint,) = user.run_json("show", "web")["endpoints"]
    eventually_sync(lambda: _responds(endpoint["url"]))


def _responds(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == HTTPStatus.OK
    except httpx2.TransportError:
        return False


def test_every_setting_is_named_in_the_readme_and_in_the_example_file() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in README, f"{name.upper()} is missing in README.md"
        assert f"{name.upper()}=" in example, f"{name.upper()} is missing in .env.example"


def test_the_printed_yaml_is_valid() -> None:
    (printed,) = blocks("yaml")
    names = [each["name"] for each in yaml.safe_load(printed)["deployments"]]
    assert names == ["prepare", "web"]
