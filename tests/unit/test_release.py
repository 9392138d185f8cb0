"""All files that name the version agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from hypervisor import __version__

ROOT = Path(__file__).parents[2]
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - \d{4}-\d{2}-\d{2}$", re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_package_and_the_program_have_one_version() -> None:
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == __version__
    packages = tomllib.loads(text("uv.lock"))["package"]
    assert [pkg["version"] for pkg in packages if pkg["name"] == "mlops-hypervisor"] == [__version__]


def test_the_changelog_has_this_version_and_an_unreleased_section() -> None:
    sections = re.findall(r"^## .*$", text("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "## Unreleased"
    assert RELEASE.findall(sections[1]) == [__version__]
    assert all(RELEASE.match(section) for section in sections[1:])


@pytest.mark.parametrize("page", ["README.md", "docs/deployment.md"])
def test_the_documents_install_this_version(page: str) -> None:
    versions = re.findall(r"(?:mlops_hypervisor|/opt/hypervisor)-(\d[\d.]*\d)", text(page))
    assert versions
    assert set(versions) == {__version__}


def test_this_version_gets_security_fixes() -> None:
    minor = __version__.rpartition(".")[0]
    assert f"| {minor}.x | yes |" in text("SECURITY.md")
