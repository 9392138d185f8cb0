"""Runs the small form of every benchmark and writes their figures, with plots, into the documentation.

`make bench` is `python -m benchmarks.support.run_all`. Ends with status 1 where a benchmark failed, after the
others have run and the page was written.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.support.results_page import Ran, write_page

_HERE = Path(__file__).resolve().parents[1]
_LONGEST = 300.0
_ALSO: dict[str, tuple[tuple[str, ...], ...]] = {
    "openb": (
        ("--policy", "fill"),
        ("--policy", "bestfit"),
        ("--policy", "random"),
        ("--priority",),
        ("--priority", "--policy", "bestfit"),
    ),
    "decisions": (("--preempting",), ("--idle",)),
}
"""What else to run of a benchmark, so that there is something to compare."""


def main() -> None:
    """Run them one after the other; what each does goes to stderr as it goes on."""
    arguments = _parse()
    kept = arguments.docs / "benchmarks" / "results.json"
    runs = _earlier(kept, arguments.only)
    for name, more in _calls(arguments.only):
        print(f"== benchmarks.{name} {' '.join(more)}", file=sys.stderr, flush=True)
        runs.append(run(name, ("--small", *more)))
        if runs[-1].error:
            print(f"   failed: {runs[-1].error}", file=sys.stderr, flush=True)
    runs.sort(key=lambda ran: ran.name)
    page = write_page(runs, arguments.docs, datetime.now(UTC))
    kept.write_text(json.dumps([asdict(ran) for ran in runs], indent=1) + "\n", encoding="utf-8")
    print(f"{page} has the figures of {len(runs)} runs", file=sys.stderr)
    sys.exit(any(ran.error for ran in runs))


def run(name: str, arguments: tuple[str, ...]) -> Ran:
    """One benchmark in a process of its own; its JSON is the last line that it prints."""
    about = _about(_HERE / f"{name}.py")
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    try:
        done = subprocess.run(
            command, cwd=_HERE.parent, capture_output=True, text=True, timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return Ran(name, arguments, about, _LONGEST, error=f"not done after {_LONGEST:.0f} s")
    seconds = time.monotonic() - began
    lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
    return Ran(name, arguments, about, seconds, _figures(done.stdout), lines[-1] if done.returncode else "")


def _figures(printed: str) -> dict[str, Any]:
    """The JSON of the last line, if it is some: who finds a fault may print its figures all the same."""
    try:
        found = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _earlier(kept: Path, only: list[str]) -> list[Ran]:
    """What is not run again, where not everything is."""
    if not only or not kept.exists():
        return []
    found = [Ran(**each) for each in json.loads(kept.read_text(encoding="utf-8"))]
    return [ran for ran in found if ran.name not in only]


def _calls(only: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = sorted(file.stem for file in _HERE.glob("*.py") if not file.stem.startswith("_"))
    for name in only or names:
        yield name, ()
        for more in _ALSO.get(name, ()):
            yield name, more


def _about(file: Path) -> str:
    """The benchmark's docstring, which explains its figures."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the small form of every benchmark and write the page.")
    parser.add_argument(
        "only", nargs="*", help="these benchmarks only; the others stay as they are on the page"
    )
    parser.add_argument("--docs", type=Path, default=_HERE.parent / "docs", help="where benchmarks.md goes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
