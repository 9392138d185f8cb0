"""Runs the quick form of every benchmark and writes docs/benchmarks.md with figures and charts.

`make bench` runs `python -m benchmarks.support.run_all`. The exit status is 1 when a benchmark failed; the
other benchmarks run, and the page is written.
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

from benchmarks.support.results_page import BenchmarkRun, write_page

_BENCHMARKS = Path(__file__).resolve().parents[1]
_TIMEOUT = 300.0
_FURTHER_ARGUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "openb": (
        ("--policy", "fill"),
        ("--policy", "bestfit"),
        ("--policy", "random"),
        ("--priority",),
        ("--priority", "--policy", "bestfit"),
    ),
    "decisions": (("--preempting",), ("--idle",)),
}
"""The arguments of further runs of a benchmark, for comparison."""


def main() -> None:
    """Run the benchmarks one after the other, with progress on stderr, and write the page."""
    arguments = _parse()
    results = arguments.docs / "benchmarks" / "results.json"
    runs = _earlier_runs(results, arguments.only)
    for name, more in _calls(arguments.only):
        print(f"== benchmarks.{name} {' '.join(more)}", file=sys.stderr, flush=True)
        runs.append(run(name, ("--small", *more)))
        if runs[-1].error:
            print(f"   failed: {runs[-1].error}", file=sys.stderr, flush=True)
    runs.sort(key=lambda ran: ran.name)
    page = write_page(runs, arguments.docs, datetime.now(UTC))
    results.write_text(json.dumps([asdict(ran) for ran in runs], indent=1) + "\n", encoding="utf-8")
    print(f"{page} has the figures of {len(runs)} runs", file=sys.stderr)
    sys.exit(any(ran.error for ran in runs))


def run(name: str, arguments: tuple[str, ...]) -> BenchmarkRun:
    """Run one benchmark in a separate process; its last printed line is its JSON report."""
    about = _about(_BENCHMARKS / f"{name}.py")
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    try:
        done = subprocess.run(
            command, cwd=_BENCHMARKS.parent, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return BenchmarkRun(name, arguments, about, _TIMEOUT, error=f"timed out after {_TIMEOUT:.0f} s")
    seconds = time.monotonic() - began
    lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
    return BenchmarkRun(
        name, arguments, about, seconds, _figures(done.stdout), lines[-1] if done.returncode else ""
    )


def _figures(printed: str) -> dict[str, Any]:
    """The JSON report in the last line, or nothing.

    A benchmark that found a fault may have printed its report.
    """
    try:
        report = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _earlier_runs(results: Path, only: list[str]) -> list[BenchmarkRun]:
    """The stored runs of the benchmarks that are not run again."""
    if not only or not results.exists():
        return []
    stored = [BenchmarkRun(**fields) for fields in json.loads(results.read_text(encoding="utf-8"))]
    return [ran for ran in stored if ran.name not in only]


def _calls(only: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = sorted(file.stem for file in _BENCHMARKS.glob("*.py") if not file.stem.startswith("_"))
    for name in only or names:
        yield name, ()
        for more in _FURTHER_ARGUMENTS.get(name, ()):
            yield name, more


def _about(file: Path) -> str:
    """The docstring of the benchmark, which explains its figures."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the quick form of every benchmark and write the page.")
    parser.add_argument(
        "only", nargs="*", help="run these benchmarks only; the others keep their figures on the page"
    )
    parser.add_argument(
        "--docs", type=Path, default=_BENCHMARKS.parent / "docs", help="folder of benchmarks.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
