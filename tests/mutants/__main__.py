"""Plants each defect in a copy of the tree and runs the tests that must fail. Exit status 1 if one survives.

The tests run without the defect first: a test that fails anyway catches nothing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant, SourceChanged, mutated_sources

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "benchmarks", "docs", "pyproject.toml", "README.md", ".env.example")
TESTS_FAILED = 1
"""The exit status of pytest when tests failed; any other status is an error of the command."""
TIMEOUT = 600
SEEDS = "60"
"""Histories for the mutants that the simulation must catch."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-k", default="", help="only the mutants with this text in their names")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if arguments.k in mutant.name]
    with tempfile.TemporaryDirectory(prefix="hv-mutants-") as folder:
        tree = _copy(Path(folder))
        baseline = {tests: _run(tree, tests) for tests in dict.fromkeys(mutant.tests for mutant in mutants)}
        survivors = [mutant for mutant in mutants if not _is_caught(tree, mutant, baseline[mutant.tests])]
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} caught")
    return 1 if survivors else 0


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def _is_caught(tree: Path, mutant: Mutant, baseline: int) -> bool:
    if baseline != 0:
        print(f"INVALID   {mutant.name}: its tests exit with {baseline} without the defect", flush=True)
        return False
    began = time.monotonic()
    try:
        mutated = mutated_sources(tree / "src" / "hypervisor", mutant)
    except SourceChanged as error:
        print(f"INVALID   {error}; update tests/mutants/table.py", flush=True)
        return False
    originals = {path: path.read_text() for path in mutated}
    try:
        _write(mutated)
        status = _run(tree, mutant.tests)
    finally:
        _write(originals)
    verdict = "caught   " if status == TESTS_FAILED else "SURVIVED "
    print(f"{verdict} {mutant.name} ({time.monotonic() - began:.0f} s: {mutant.tests})", flush=True)
    return status == TESTS_FAILED


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.write_text(text)


def _run(tree: Path, tests: str) -> int:
    """Run the tests in the copied tree; the exit status of pytest."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "SIMULATION_SEEDS": SEEDS}
    completed = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=TIMEOUT)
    return completed.returncode


if __name__ == "__main__":
    sys.exit(main())
