"""The text parts of the page: headline cards and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from hypervisor.simulation.report.figures import Figures
from hypervisor.simulation.report.number_format import count, counted, duration, share

Headline = tuple[str, Callable[[Figures], float | None], Callable[[float | None], str]]

HEADLINES: tuple[Headline, ...] = (
    ("GPU utilization", lambda run: run["utilization"]["gpu"], share),
    ("CPU utilization", lambda run: run["utilization"]["cpu"], share),
    ("RAM utilization", lambda run: run["utilization"]["ram"], share),
    ("Jobs done", lambda run: run["jobs"]["ended"], count),
    ("Median wait", lambda run: run["wait_seconds"]["p50"], duration),
    ("90 % waited at most", lambda run: run["wait_seconds"]["p90"], duration),
    ("Mean wait", lambda run: run["wait_seconds"]["mean"], duration),
    ("Mean time to the end", lambda run: run["turnaround_seconds"]["mean"], duration),
    ("Evictions", lambda run: run["evictions"], count),
    ("Lost GPU-hours", lambda run: run["gpu_hours"]["lost"], count),
    ("Done GPU-hours", lambda run: run["gpu_hours"]["done"], count),
    ("Rejected jobs", lambda run: run["jobs"]["rejected"], count),
)
"""The headline figures of the page and the terminal: name, value, format."""

_COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("Jobs", lambda each: count(each["arrived"])),
    ("Done", lambda each: count(each["ended"])),
    ("Rejected", lambda each: count(each["rejected"])),
    ("Median wait", lambda each: duration(each["wait_seconds"]["p50"])),
    ("90 %", lambda each: duration(each["wait_seconds"]["p90"])),
    ("99 %", lambda each: duration(each["wait_seconds"]["p99"])),
    ("Longest", lambda each: duration(each["wait_seconds"]["max"])),
    ("Evictions", lambda each: count(each["evictions"])),
    ("Lost GPU-h", lambda each: count(each["lost_gpu_hours"])),
    ("Done GPU-h", lambda each: count(each["done_gpu_hours"])),
)
_SHARE = ("Of all GPU-h", lambda each: share(each["share_of_gpu_hours"]))


def headlines(runs: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """The name and one text per run of each headline figure that any run has."""
    rows = []
    for name, figure, write in HEADLINES:
        values = [figure(run) for run in runs]
        if any(value is not None for value in values):
            rows.append((name, [write(value) for value in values]))
    return rows


def describe_run(run: Figures) -> str:
    """The nodes and the policy of a run, in one line."""
    capacity = run["capacity"]
    amounts = [counted(run["nodes"], "node"), counted(int(capacity["gpu_count"]), "GPU")]
    if capacity["cpu_cores"] is not None:
        amounts.append(f"{count(capacity['cpu_cores'])} CPU cores")
    if capacity["ram_gb"] is not None:
        amounts.append(f"{count(capacity['ram_gb'])} GB RAM")
    amounts.append(f"policy {run['policy']}")
    amounts.append("preemption on" if run["preemption"] else "preemption off")
    if run["shared"]:
        amounts.append("quotas")
    return " · ".join(amounts)


def cards(runs: Sequence[Figures]) -> str:
    """One box per headline figure, and one line per run."""
    legend = "".join(
        f'<p class="run"><i class="run-{number}"></i><b>{escape(run["label"])}</b> '
        f"{escape(describe_run(run))}</p>"
        for number, run in enumerate(runs)
    )
    boxes = []
    for name, texts in headlines(runs):
        lines = "".join(f"<dd>{_dot(number, runs)}{escape(text)}</dd>" for number, text in enumerate(texts))
        boxes.append(f"<div><dt>{escape(name)}</dt>{lines}</div>")
    return f'<div class="runs">{legend}</div><dl class="cards">{"".join(boxes)}</dl>'


def rejected_table(runs: Sequence[Figures]) -> str:
    """The rejected jobs by reason; empty without rejected jobs."""
    rows = [(number, run, each) for number, run in enumerate(runs) for each in run["rejected"]]
    if not rows:
        return ""
    body = "".join(
        f"<tr><td>{_dot(number, runs)}{escape(each['code'].replace('_', ' '))}</td>"
        f'<td class="n">{count(each["jobs"])}</td><td class="n">{count(each["gpu_hours"])}</td>'
        f"<td>{escape(each['example'])}</td></tr>"
        for number, run, each in rows
    )
    return (
        '<section class="wide warning"><h2>Rejected jobs (they can never run here)</h2><table><thead><tr>'
        '<th>Reason</th><th class="n">Jobs</th><th class="n">GPU-hours</th><th>For example</th></tr></thead>'
        f"<tbody>{body}</tbody></table></section>"
    )


def describe_splits(run: Figures) -> str:
    """The splits of jobs larger than a node, in one sentence; empty without splits."""
    if not run["splits"]:
        return ""
    jobs = sum(each["jobs"] for each in run["splits"])
    parts = [
        f"{each['gpus']} GPUs as {each['replicas']} x {each['gpus_each']}"
        f"{'' if each['fills_nodes'] else ', because no node size divides it'}"
        f" ({counted(each['jobs'], 'job')})"
        for each in run["splits"]
    ]
    return f"{counted(jobs, 'job')} larger than a node ran in equal replicas: {'; '.join(parts)}"


def split_notes(runs: Sequence[Figures]) -> str:
    """`describe_splits` of each run with splits."""
    return "".join(
        f'<p class="note">{_dot(number, runs)}{escape(text)}.</p>'
        for number, run in enumerate(runs)
        if (text := describe_splits(run))
    )


def groups_table(runs: Sequence[Figures], groups: str, title: str) -> str:
    """The figures of every group, one row per run."""
    names = list(dict.fromkeys(each["label"] for run in runs for each in run[groups]))
    found = [{each["label"]: each for each in run[groups]} for run in runs]
    columns = (*_COLUMNS, _SHARE) if groups == "by_organization" else _COLUMNS
    body = []
    for name in names:
        for number, by_name in enumerate(found):
            if name in by_name:
                cells = "".join(f'<td class="n">{escape(write(by_name[name]))}</td>' for _, write in columns)
                body.append(f"<tr><td>{_dot(number, runs)}{escape(name)}</td>{cells}</tr>")
    head = "".join(f'<th class="n">{name}</th>' for name, _ in columns)
    return (
        f'<section class="wide"><h2>By {title.lower()}</h2><table><thead><tr><th>{title}</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></section>"
    )


def _dot(number: int, runs: Sequence[Figures]) -> str:
    return f'<i class="run-{number}"></i>' if len(runs) > 1 else ""
