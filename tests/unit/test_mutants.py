"""The table of planted defects matches the source, so that `make mutants` can plant each of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.mutants.table import APPENDED, MUTANTS, Mutant, mutated_sources

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_defect_can_be_planted(mutant: Mutant) -> None:
    for path, text in mutated_sources(ROOT / "src" / "hypervisor", mutant).items():
        assert text != path.read_text()
        compile(text, str(path), "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_tests_exist(mutant: Mutant) -> None:
    file, *options = shlex.split(mutant.tests)
    names = [line for line in (ROOT / file).read_text().splitlines() if "def test_" in line]
    words = options[-1].removesuffix(" and sqlite") if options else ""
    assert any(words in name for name in names), f"{words} names no test of {file}"


def test_names_are_unique_and_every_appended_text_has_its_mutant() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert APPENDED.keys() <= set(names)
