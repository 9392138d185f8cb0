"""The runtimes that the contract tests run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.runtime_cases import CASES, RuntimeCase


@pytest.fixture(params=[pytest.param(case, marks=case.marks, id=case.name) for case in CASES])
async def runtime_case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RuntimeCase]:
    kind: type[RuntimeCase] = request.param
    if reason := kind.unavailable():
        pytest.skip(reason)
    case = kind(tmp_path)
    yield case
    await case.clean_up()
