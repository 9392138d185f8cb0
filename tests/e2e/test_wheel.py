"""The wheel is complete and works without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from email import message_from_bytes
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
UV = Path(sys.executable).with_name("uv")
# The packages come from uv's cache, which `make setup` has filled. If they are missing,
# uv asks the index. It then has to trust what the machine trusts, as in the Makefile.
UV_SETTINGS = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}

BUILD_SECONDS = 60
INSTALL_SECONDS = 120
DEMO_SECONDS = 150


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout.

    Its build backend is a development dependency, so no package index is used.
    """
    folder = tmp_path_factory.mktemp("wheel")
    with_ours = ("--no-build-isolation", "--python", sys.executable)
    run(UV, "build", "--wheel", *with_ours, "--out-dir", folder, within=BUILD_SECONDS)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert packed == {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    "needed",
    [
        "migrations/env.py",
        "script.py.mako",
        "static/docs/swagger-ui-bundle.js",
        "templates/base.html",
        "demo/iris.csv",
        "common_passwords.txt",
        "report/page.css",
        "py.typed",
        "licenses/LICENSE",
    ],
)
def test_the_wheel_has_the_files_that_are_read_at_run_time(wheel: Path, needed: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(f"/{needed}")]


def test_an_index_page_can_follow_every_link_of_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        page = message_from_bytes(archive.read(name))

    assert page["Description-Content-Type"] == "text/markdown"
    readme = str(page.get_payload())
    assert f"/blob/v{page['Version']}/docs/architecture.md)" in readme
    assert not re.findall(r"\]\((?![a-z]+:|#)[^)]+\)", readme), "a link is relative"


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    installed = install(wheel, tmp_path / "installed")
    home = tmp_path / "home"
    home.mkdir()

    try:
        done = subprocess.run(
            [installed / "bin" / "hypervisor", "demo"],
            capture_output=True,
            text=True,
            timeout=DEMO_SECONDS,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home)},
            cwd=home,
        )
    finally:
        left = processes_of(tmp_path)
        for process in left:
            with suppress(psutil.Error):
                process.kill()

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "All processes have ended." in done.stdout
    assert left == []
    assert list(home.iterdir()) == []


def install(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel and the locked versions of its dependencies."""
    environment = {"UV_PROJECT_ENVIRONMENT": str(folder)}
    locked = ("--frozen", "--no-dev", "--no-install-project", "--python", sys.executable)
    run(UV, "sync", *locked, within=INSTALL_SECONDS, **environment)
    python = folder / "bin" / "python"
    run(UV, "pip", "install", "--no-deps", "--python", python, wheel, within=INSTALL_SECONDS)
    run(UV, "pip", "check", "--python", python, within=INSTALL_SECONDS)
    return folder


def run(*command: str | Path, within: float, **environment: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        env={**os.environ, **UV_SETTINGS, **environment},
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def processes_of(folder: Path) -> list[psutil.Process]:
    """The processes of programs in the folder, or with a working directory in it."""
    found = psutil.process_iter(["cmdline", "cwd"])
    return [each for each in found if str(folder) in f"{each.info['cmdline']} {each.info['cwd']}"]
