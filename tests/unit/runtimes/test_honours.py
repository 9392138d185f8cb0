"""Which fields each runtime honours: complete, and equal to the documents."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from hypervisor.clusters.schemas import RuntimeName
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.runtimes.honours import COMMON_FIELDS, HONOURS, OPTIONAL_FIELDS, honoured_by
from tests.contract.runtime_cases import CASES

ALL = {*OPTIONAL_FIELDS, *COMMON_FIELDS}
DOCUMENT = Path(__file__).parents[3] / "docs" / "runtimes.md"
WORDS = {(True, False): "yes", (False, True): "in name", (False, False): "refused"}


def test_every_runtime_declares_what_it_honours() -> None:
    assert HONOURS.keys() == set(get_args(RuntimeName)) - {"auto"}
    assert HONOURS.keys() == {case.name for case in CASES}


def test_declarations_name_fields_of_requests_once() -> None:
    assert DeploymentCreate.model_fields.keys() >= ALL
    for honours in HONOURS.values():
        assert honours.accepted <= ALL
        assert honours.honoured.isdisjoint(honours.in_name)
        assert set(honours.needs) <= honours.accepted
        assert set(COMMON_FIELDS) <= honours.accepted


def test_an_optional_field_is_not_requested_by_default() -> None:
    defaults = DeploymentCreate(name="x")
    assert [name for name in OPTIONAL_FIELDS if getattr(defaults, name)] == []


def test_some_runtime_honours_each_field() -> None:
    for name in ALL:
        assert honoured_by({name}), name


def test_the_document_has_the_declarations() -> None:
    header, _, *rows = _table()
    runtimes = header[1:]
    assert set(runtimes) == HONOURS.keys()
    declared = {
        name: [
            WORDS[name in HONOURS[runtime].honoured, name in HONOURS[runtime].in_name] for runtime in runtimes
        ]
        for name in ALL
    }
    assert {cells[0].strip("`"): cells[1:] for cells in rows} == declared


def _table() -> list[list[str]]:
    """The cells of the table below "## Fields"."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## Fields\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
