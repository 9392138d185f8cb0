"""The Markdown page with the figures and charts of all benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.support.bar_chart import Bar, bars

_NOT_FIGURES = frozenset({"benchmark", "machine", "load_average"})
_INTRODUCTION = """# Benchmarks

The results of `make bench` on {when}. It runs the quick form of every benchmark, which takes minutes.
Absolute times on a shared machine mean little: compare the sides of one run.
`python -m benchmarks.NAME --help` shows the options of the long form.

Machine: {cpu}, {cores} cores, {system}, Python {python}. Load average at the end: {load}.
"""


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One run of a benchmark: `figures` is its JSON report, `error` the cause of a failure."""

    name: str
    arguments: tuple[str, ...]
    about: str
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def command(self) -> str:
        return " ".join(("python -m", f"benchmarks.{self.name}", *self.arguments))


@dataclass(frozen=True, slots=True)
class Plot:
    """A bar chart of one benchmark.

    It has the number at `path` of each run, labelled with the figures in `label`, or one bar per entry if
    there is a mapping at `path`. Dots in the path separate keys; `*` stands for every key. Missing values and
    zeros are left out.
    """

    benchmark: str
    title: str
    path: str
    label: str = ""

    def rows(self, runs: Sequence[BenchmarkRun]) -> list[Bar]:
        found = []
        for ran in runs:
            run_label = " ".join(str(_at(ran.figures, part)) for part in self.label.split())
            found += [
                Bar(name or run_label, value) for name, value in _values(ran.figures, self.path) if value
            ]
        return found


PLOTS = (
    Plot("openb", "Allocated GPUs, %", "mean.allocated_percent", "protocol policy"),
    Plot("openb", "Placed pods, %", "mean.pods_placed_percent", "protocol policy"),
    Plot("decisions", "Placements per second of one core", "placements_per_cpu_second", "scenario"),
    Plot("optimality", "Hard cases at the proven optimum, %", "at_optimum_percent.hard"),
    Plot("throughput", "Jobs per second", "jobs_per_second"),
    Plot("accepts", "Submissions relative to pgbench, by clients", "clients.*.accepts_over_pgbench"),
    Plot("latency", "Submit to running, median ms", "*.submit_to_running.p50_ms"),
    Plot("failover", "Time from the end of a scheduler to the next placement, median s", "*.scheduled.p50"),
    Plot("reads", "Reads per second with 16 clients", "reads.*.per_second"),
)


def write_page(runs: Sequence[BenchmarkRun], folder: Path, now: datetime) -> Path:
    """Write `benchmarks.md` and its charts into the folder. Old charts are deleted."""
    pictures = folder / "benchmarks"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.svg"):
        old.unlink()
    shown: dict[str, list[str]] = {}
    for number, plot in enumerate(PLOTS, start=1):
        rows = plot.rows([ran for ran in runs if ran.name == plot.benchmark])
        if rows:
            file = f"{plot.benchmark}-{number}.svg"
            (pictures / file).write_text(bars(plot.title, rows), encoding="utf-8")
            shown.setdefault(plot.benchmark, []).append(f"![{plot.title}](benchmarks/{file})")
    page = folder / "benchmarks.md"
    page.write_text("\n".join(_lines(runs, shown, now)), encoding="utf-8")
    return page


def _lines(runs: Sequence[BenchmarkRun], shown: Mapping[str, list[str]], now: datetime) -> Iterator[str]:
    last = next((ran.figures for ran in reversed(runs) if "machine" in ran.figures), {})
    machine = {"cpu": "?", "cores": "?", "system": "?", "python": "?", **last.get("machine", {})}
    load = ", ".join(map(str, last.get("load_average", ())))
    yield _INTRODUCTION.format(when=now.strftime("%Y-%m-%d"), load=load, **machine)
    for name in dict.fromkeys(ran.name for ran in runs):
        of_benchmark = [ran for ran in runs if ran.name == name]
        yield f"## {name}\n\n{of_benchmark[0].about}\n"
        for picture in shown.get(name, ()):
            yield f"{picture}\n"
        for ran in of_benchmark:
            yield f"`{ran.command}` ({ran.seconds:.0f} s)\n"
            if ran.error:
                yield f"**Failed:** {ran.error}\n"
            if ran.figures:
                yield _table(ran.figures)


def _table(figures: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_shown(value)} |" for name, value in _flat(figures)]
    return "\n".join(("| figure | value |", "| --- | --- |", *rows, ""))


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The figures that are single values, by dotted name; lists are only in the JSON."""
    for name, value in figures.items():
        if name in _NOT_FIGURES or isinstance(value, list):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, (int, float)):
        return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
    return str(value).replace("|", "\\|")


def _values(figures: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    """The numbers at a path by name; the name is empty for a single number."""
    above, star, below = path.partition("*.")
    found = _at(figures, above.rstrip(".")) if star and above else figures if star else _at(figures, path)
    if not isinstance(found, Mapping):
        found = {"": found}
    for name, each in found.items():
        value = _at(each, below) if star and isinstance(each, Mapping) else each
        if isinstance(value, (int, float)) and not (star and value is each):
            yield str(name), float(value)


def _at(figures: Mapping[str, Any], path: str) -> Any:
    found: Any = figures
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
