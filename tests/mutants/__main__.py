"""Plants each defect in a copy of the tree and runs the tests that have to find it. Ends with 1 if one lives.

The tests are run without the defect first: what fails by itself finds nothing.
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

from tests.mutants.table import APPENDED, MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "benchmarks", "docs", "pyproject.toml", "README.md", ".env.example")
FAILED = 1
"""What pytest ends with when tests failed; anything else is an error of the command."""
LONGEST = 600
SEEDS = "60"
"""Histories for those that are looked for by simulation."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-k", default="", help="only the mutants with this in their names")
    asked = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if asked.k in mutant.name]
    with tempfile.TemporaryDirectory(prefix="hv-mutants-") as folder:
        tree = _copy(Path(folder))
        sound = {tests: _run(tree, tests) for tests in dict.fromkeys(mutant.tests for mutant in chosen)}
        survivors = [mutant for mutant in chosen if not _is_caught(tree, mutant, sound[mutant.tests])]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    return 1 if survivors else 0


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def _is_caught(tree: Path, mutant: Mutant, sound: int) -> bool:
    if sound != 0:
        print(f"NOT TOLD  {mutant.name}: its tests end with {sound} without it", flush=True)
        return False
    began = time.monotonic()
    before = _plant(tree / "src" / "hypervisor", mutant)
    if before is None:
        print(f"NOT THERE {mutant.name}: the code has changed; renew the table", flush=True)
        return False
    try:
        code = _run(tree, mutant.tests)
    finally:
        for path, text in before.items():
            path.write_text(text)
    word = "caught   " if code == FAILED else "SURVIVED "
    print(f"{word} {mutant.name} ({time.monotonic() - began:.0f} s: {mutant.tests})", flush=True)
    return code == FAILED


def _plant(sources: Path, mutant: Mutant) -> dict[Path, str] | None:
    """Make the defect; the files as they were before, None where its place is not found."""
    places = ((mutant.file, mutant.old, mutant.new), *mutant.also)
    edits = [(sources / file, old, new) for file, old, new in places]
    before = {path: path.read_text() for path, _, _ in edits}
    if any(before[path].count(old) != 1 for path, old, _ in edits):
        return None
    for path, old, new in edits:
        path.write_text(path.read_text().replace(old, new))
    first = sources / mutant.file
    first.write_text(first.read_text() + APPENDED.get(mutant.name, ""))
    return before


def _run(tree: Path, tests: str) -> int:
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "SIMULATION_SEEDS": SEEDS}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=LONGEST)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
