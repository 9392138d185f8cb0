"""The first steps of the README work as printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hypervisor.settings import Settings
from tests.support.server import HypervisorServer

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


def test_every_setting_is_named_in_the_readme_and_in_the_example_file() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in README, f"{name.upper()} is missing in README.md"
        assert f"{name.upper()}=" in example, f"{name.upper()} is missing in .env.example"


def test_the_printed_yaml_is_valid() -> None:
    (printed,) = blocks("yaml")
    names = [each["name"] for each in yaml.safe_load(printed)["deployments"]]
    assert names == ["train", "serve"]
