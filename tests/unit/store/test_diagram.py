"""The diagram of the database in the documentation is current."""

from __future__ import annotations

from pathlib import Path

from hypervisor.store.base import Base
from hypervisor.store.diagram import render

PAGE = Path(__file__).parents[3] / "docs" / "schema.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "run: python -m hypervisor.store.diagram > docs/schema.md"
    )


def test_every_table_and_foreign_key_is_drawn() -> None:
    page = render()
    for table in Base.metadata.tables.values():
        assert f"    {table.name} {{" in page
        for constraint in table.foreign_key_constraints:
            assert any(
                line.strip().startswith(f"{constraint.referred_table.name} ")
                and f' {table.name} : "{", ".join(constraint.column_keys)}"' in line
                for line in page.splitlines()
            )
