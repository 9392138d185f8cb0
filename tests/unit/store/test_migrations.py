"""What migrations say of themselves is read as Alembic reads it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from hypervisor.store.migrations import runner
from hypervisor.store.migrations.alembic_config import configuration
from hypervisor.store.migrations.runner import head_revision, known_revisions


def test_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    assert head_revision() == scripts.get_current_head()
    assert known_revisions() == {each.revision for each in scripts.walk_revisions()}


def test_a_version_that_is_installed_under_a_running_one_is_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the running one would take the schema of the new one for an old one, and be unready."""
    runner._migrations.cache_clear()
    head = runner.head_revision()
    newer = tmp_path / "migrations" / "versions"
    newer.mkdir(parents=True)
    (newer / "9999_more.py").write_text(f'revision = "9999"\ndown_revision = "{head}"\n')
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    assert "9999" not in runner.known_revisions()
    assert runner.head_revision() == head
