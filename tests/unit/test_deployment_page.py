"""The command blocks of `docs/deployment.md`: what can run without an installation is run as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hypervisor.control.reconciler.report_urls import ReportUrls
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.settings import Settings
from tests.support import docker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text()
BLOCKS = re.findall(r"^```(?:console|ini)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_key_of_a_container_and_of_a_unit_is_kept_in_a_file(tmp_path: Path) -> None:
    """No block gives a new key to each container: the key is written once, and only its owner reads it."""
    assert not [block for block in BLOCKS if re.search(r"docker run.*SECRET_KEY=", block)]
    (container,) = [block for block in BLOCKS if "docker run" in block]
    (units,) = [block for block in BLOCKS if "<<END" in block]
    (write,) = [line[2:] for line in container.splitlines() if "SECRET_KEY" in line]
    assert "--env-file hypervisor.env" in container
    file = tmp_path / "hypervisor.env"
    subprocess.run(["sh", "-c", write], cwd=tmp_path, check=True)
    assert _key(file)
    file.unlink()
    script = "".join(line.removeprefix("# ") for line in units.splitlines(keepends=True)[1:6])
    subprocess.run(
        ["sh", "-c", script.replace("/etc/hypervisor/", "")], cwd=tmp_path, check=True, env={**os.environ}
    )
    assert _key(file)
    scheduler = Settings(_env_file=file, role="scheduler")
    assert ReportUrls(scheduler).of(EngineRef("docker")) == "https://hypervisor.example.com"
    assert scheduler.database_url.startswith("postgresql://")


def _key(file: Path) -> str:
    assert file.stat().st_mode & 0o777 == 0o600
    (key,) = re.findall(r"^SECRET_KEY=([0-9a-f]{64})$", file.read_text(), re.MULTILINE)
    return str(key)


@pytest.mark.docker
def test_new_env_writes_each_required_line_once_and_keeps_the_file(tmp_path: Path) -> None:
    if reason := docker.why_no_docker():
        pytest.skip(reason)
    script = tmp_path / "deploy/new-env"
    script.parent.mkdir()
    shutil.copy(ROOT / "deploy/new-env", script)
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    file = tmp_path / ".env"
    written = file.read_text()
    assert _key(file)
    required = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())
    assert all(re.search(rf"^{name}=\S+$", written, re.MULTILINE) for name in required)
    again = subprocess.run(["sh", str(script)], check=False, capture_output=True, text=True)
    assert (again.returncode, file.read_text()) == (1, written)
    assert "exists already" in again.stderr


def test_every_unit_and_file_of_the_blocks_exists() -> None:
    commands = "".join(BLOCKS)
    units = {path.name for path in (ROOT / "deploy/systemd").glob("*.service")}
    for name, instance in re.findall(r"\b(hypervisor(?:-api|-scheduler)?)(@\d+)?\b(?= |$)", commands):
        assert not instance or f"{name}@.service" in units, name
    for path in re.findall(r"\bdeploy/[\w./-]+\w", commands):
        assert (ROOT / path).exists(), path
