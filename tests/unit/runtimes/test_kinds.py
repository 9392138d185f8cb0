"""The declarations of the runtimes: complete, and as the documents say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import String, inspect

from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.runtimes.kinds import COMMON_FIELDS, OPTIONAL_FIELDS, RUNTIMES, RuntimeKind, honoured_by
from hypervisor.store.tables import Cluster
from tests.contract.runtime_cases import CASES

ALL = {*OPTIONAL_FIELDS, *COMMON_FIELDS}
DOCUMENT = Path(__file__).parents[3] / "docs" / "runtimes.md"
WORDS = {(True, False): "yes", (False, True): "in name", (False, False): "refused"}


def test_every_runtime_has_a_case_of_the_contract() -> None:
    assert RUNTIMES.keys() == {case.name for case in CASES}


@pytest.mark.parametrize("kind", RUNTIMES.values(), ids=RUNTIMES)
def test_the_declared_modules_have_their_functions(kind: RuntimeKind) -> None:
    functions = {"open_runtime": kind.module, "open_reader": kind.reader, "describe": kind.describer}
    for function, module in functions.items():
        assert module is None or callable(getattr(import_module(module), function))


def test_names_fit_the_column() -> None:
    column = inspect(Cluster).columns["resolved_runtime"].type
    assert isinstance(column, String)
    assert column.length is not None
    assert max(map(len, RUNTIMES)) <= column.length


def test_declarations_name_fields_of_requests_once() -> None:
    assert DeploymentCreate.model_fields.keys() >= ALL
    for kind in RUNTIMES.values():
        assert kind.accepted <= ALL
        assert kind.honoured.isdisjoint(kind.in_name)
        assert set(kind.needs) <= kind.accepted
        assert set(COMMON_FIELDS) <= kind.accepted


def test_an_optional_field_asks_for_nothing_by_default() -> None:
    defaults = DeploymentCreate(name="x")
    assert [name for name in OPTIONAL_FIELDS if getattr(defaults, name)] == []


def test_some_runtime_honours_each_field() -> None:
    for name in ALL:
        assert honoured_by({name}), name


def test_the_document_says_what_is_declared() -> None:
    header, _, *rows = _table()
    runtimes = header[1:]
    assert set(runtimes) == RUNTIMES.keys()
    declared = {
        name: [
            WORDS[name in RUNTIMES[runtime].honoured, name in RUNTIMES[runtime].in_name]
            for runtime in runtimes
        ]
        for name in ALL
    }
    assert {cells[0].strip("`"): cells[1:] for cells in rows} == declared


def _table() -> list[list[str]]:
    """The cells of the table below "## Fields"."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## Fields\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
