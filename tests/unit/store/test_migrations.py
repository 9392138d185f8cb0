"""The runner reads the revisions of the migration files as Alembic does."""

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
    assert known_revisions() == {script.revision for script in scripts.walk_revisions()}


def test_revisions_that_are_installed_while_a_process_runs_are_unknown_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the running process would take its own schema for an old one, and become unready."""
    runner._migrations.cache_clear()
    head = runner.head_revision()
    newer = tmp_path / "migrations" / "versions"
    newer.mkdir(parents=True)
    (newer / "9999_more.py").write_text(f'revision = "9999"\ndown_revision = "{head}"\n')
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    assert "9999" not in runner.known_revisions()
    assert runner.head_revision() == head
