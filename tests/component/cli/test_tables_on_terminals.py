"""Every table on terminals of several widths: identity and state are whole, and no line is too wide."""

from __future__ import annotations

import re
import signal
from io import StringIO
from pathlib import Path

import pytest
from rich.cells import cell_len

from hypervisor.cli.main import run
from tests.component.cli.described import FIRST_ID, STATES, Described
from tests.support import forkserver
from tests.support.terminal import shown_on_terminal, start_on, terminal, without_sequences
from tests.support.wait import PROMPT
from tests.unit.client.scripted import scripted

ID = str(FIRST_ID)
WIDTHS = (60, 80, 100, 160)
NAMES = {
    "short": "train",
    "long": "n" * 63,
    "wide": "日本語のトレーニング" * 3,
    "emoji": "🚀 ré́sumé 👍",
}
REASONS = {
    "none": "",
    "sentence": "needs 2 GPUs of model A100 on one node, and rack-17-node-3 has just 1 of them free so far",
    "long": "the cluster has no such room, " * 10,
    "wide": "空きがありません。" * 20,
}
TABLES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "ps": (["ps"], STATES),
    "ps -a": (["ps", "-a"], STATES),
    "watch": (["watch", "--once"], STATES),
    "queue": (["queue", ID], ()),
    "attempts": (["attempts", ID], ("succeeded",)),
    "events": (["events", ID], ("RUNNING → SUCCEEDED", "deployment.state")),
    "cluster list": (["cluster", "list"], ()),
    "cluster show": (["cluster", "show", ID], ("cordoned",)),
    "cluster nodes": (["cluster", "nodes", ID], ("cordoned",)),
    "cluster shares": (["cluster", "shares"], ("accepted", "815")),
    "cluster fragmentation": (["cluster", "fragmentation", ID], ()),
    "decisions": (["decisions", ID], ()),
    "top": (["top", "--once"], ("cordoned",)),
    "org list": (["org", "list"], ("developer",)),
    "org members": (["org", "members", ID], ("developer",)),
}
PAIRS = (("short", "sentence"), ("long", "sentence"), ("long", "long"), ("wide", "wide"), ("emoji", "none"))
BESIDE_A_NAME = {"cluster shares": 40}
"""Cells of the other columns that are always whole, where they are more than an id and a state."""
WITHOUT_ID = ("attempts", "top", "cluster fragmentation")
WITHOUT_NAME = ("events", "decisions")


class _Screen(StringIO):
    """A stdout that is a terminal; COLUMNS has its width."""

    def isatty(self) -> bool:
        return True


def shown(columns: int, arguments: list[str], patch: pytest.MonkeyPatch) -> str:
    """The output of a command in this process, without colours."""
    screen = _Screen()
    patch.setattr("sys.stdout", screen)
    patch.setenv("COLUMNS", str(columns))
    assert run(arguments) == 0
    return without_sequences(screen.getvalue())


def environment(url: str, home: Path) -> dict[str, str]:
    return {"HOME": str(home), "TERM": "xterm", "HYPERVISOR_URL": url, "HYPERVISOR_TOKEN": "token"}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(("name", "reason"), PAIRS)
def test_identity_and_state_are_whole_and_no_line_is_too_wide(
    name: str, reason: str, columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Described(NAMES[name], REASONS[reason]).respond) as server:
        for variable, value in environment(server.url, tmp_path).items():
            monkeypatch.setenv(variable, value)
        texts = {title: shown(columns, arguments, monkeypatch) for title, (arguments, _) in TABLES.items()}

    for title, text in texts.items():
        context = f"{title} at {columns}:\n{text}"
        assert max(map(cell_len, text.split("\n"))) <= columns, context
        assert title in WITHOUT_ID or ID in text, context
        assert all(state in text for state in TABLES[title][1]), context
        room = columns - BESIDE_A_NAME.get(title, 20)
        assert title in WITHOUT_NAME or is_whole(NAMES[name], text, room), context


@pytest.mark.parametrize("title", TABLES)
def test_nothing_is_left_out_or_cut_in_a_pipe(title: str, tmp_path: Path) -> None:
    reason = REASONS["long"].strip()
    with scripted(Described(NAMES["long"], reason).respond) as server:
        arguments, states = TABLES[title]
        # The variable is for terminals.
        variables = environment(server.url, tmp_path) | {"COLUMNS": "40"}
        code, output, errors = forkserver.run(arguments, variables, tmp_path, stdin="", within=PROMPT)

    assert (code, errors) == (0, "")
    assert "…" not in output
    assert title in WITHOUT_NAME or NAMES["long"] in output
    for text in (*states, *FULL.get(title, ())):
        assert text in output
    assert reason in output or title not in WITH_REASON


WITH_REASON = ("ps", "ps -a", "watch", "queue", "attempts", "events")
FULL = {
    "ps": ("job", "8 CPU, 64 GB, 2 GPU", "rack-17-node-3 gpu 0,1", "MEDIUM"),
    "attempts": ("process", "0,1,2,3"),
    "cluster list": ("64 CPU, 512 GB, 8 GPU",),
    "cluster nodes": ("key-2",),
    "decisions": ("a" * 12, "b" * 12),
}


@pytest.mark.parametrize("command", ["watch", "top"])
@pytest.mark.parametrize("columns", [60, 100])
def test_a_live_table_fits_the_terminal(command: str, columns: int, tmp_path: Path) -> None:
    api = Described(NAMES["wide"], REASONS["long"])
    with scripted(api.respond) as server, terminal(columns) as opened:
        arguments = [command, "--interval", "0.2"]
        process = start_on(opened, arguments, environment(server.url, tmp_path), tmp_path)
        try:
            opened.read_while(lambda: len(server.requests) < 3)
            process.send_signal(signal.SIGINT)
            opened.read_while(lambda: process.poll() is None)
        finally:
            process.kill()

    assert process.poll() == 130
    assert max(map(cell_len, re.split("[\r\n]", opened.text))) <= columns
    assert is_whole(NAMES["wide"], opened.text, columns - 20)
    assert ("SUCCEEDED" if command == "watch" else "cordoned") in opened.text


def test_a_reason_is_cut_with_an_ellipsis_where_it_has_room_and_stands_below_where_not(
    tmp_path: Path,
) -> None:
    reason = REASONS["sentence"]
    with scripted(Described("train", reason).respond) as server:
        variables = environment(server.url, tmp_path)
        inline = shown_on_terminal(100, ["ps"], variables, tmp_path)
    with scripted(Described("n" * 63, reason).respond) as server:
        variables = environment(server.url, tmp_path)
        below = shown_on_terminal(80, ["ps"], variables, tmp_path)

    (line,) = (line for line in inline.splitlines() if ID in line)
    assert all(text in line for text in ("train", "QUEUED", "needs 2 GPUs"))
    assert line.rstrip().endswith("…")
    assert " ".join(below.split()).count(reason) == len(STATES)


def is_whole(name: str, text: str, room: int) -> bool:
    """Whether the name is on one line, or folded on several where `room` is less than its width."""
    if cell_len(name) <= room:
        return name in text
    folded = [character for character in text if character in name]
    return "".join(folded).count(name[:3]) > 0 and len(folded) >= len(name)


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_tables_of_a_simulation_fit(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = "日本語のチーム" * 3
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(
        f"arrival_seconds,duration_seconds,gpu_count,organization,priority\n0,3600,1,{organization},HIGH\n"
    )
    arguments = ["simulate", "-w", str(jobs), "-n", "4x8gpu", "--vs", "bestfit,improve,no-preemption"]
    text = shown(columns, arguments, monkeypatch)
    assert max(map(cell_len, text.split("\n"))) <= columns, text
    assert organization in text
    assert "HIGH" in text
