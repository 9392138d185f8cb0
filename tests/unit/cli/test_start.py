"""The command line starts quickly, because it imports only the modules of the called command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.wait import PROMPT

HEAVY = ("httpx2", "fastapi", "sqlalchemy", "pydantic", "numpy", "rich", "uvicorn", "yaml")
REPORT = """
import json, sys
from hypervisor.cli.main import run
code = run(sys.argv[1:])
print("\\n" + json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


def run_and_list_modules(*arguments: str) -> tuple[int, list[str], str]:
    finished = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, timeout=PROMPT, check=True
    )
    *output, report = finished.stdout.strip().splitlines()
    code, modules = json.loads(report)
    return code, modules, "\n".join(output)


@pytest.mark.parametrize("arguments", [["--help"], []], ids=["help", "alone"])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code, modules, _ = run_and_list_modules(*arguments)
    assert code == 0
    assert not set(HEAVY) & set(modules)


def test_help_names_every_command() -> None:
    _, _, output = run_and_list_modules("--help")
    for command in ("serve", "demo", "login", "org", "cluster", "deploy", "ps", "explain", "logs", "watch"):
        assert f"\n  {command} " in output


def test_a_client_command_does_not_import_the_server() -> None:
    code, modules, _ = run_and_list_modules("ps", "--help")
    assert code == 0
    assert not {"fastapi", "sqlalchemy", "uvicorn", "numpy"} & set(modules)
