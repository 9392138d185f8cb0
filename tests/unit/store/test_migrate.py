"""What migrations say of themselves is read as Alembic reads it."""

from __future__ import annotations

from alembic.script import ScriptDirectory

from hypervisor.store.migrate import head_revision, known_revisions
from hypervisor.store.migrating import configuration


def test_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    assert head_revision() == scripts.get_current_head()
    assert known_revisions() == {each.revision for each in scripts.walk_revisions()}
