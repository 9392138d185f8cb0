"""No code reads the clock of the event loop: timers and timeouts do, and everything else takes a Clock.

The other clocks, and randomness, are banned by ruff (TID251, see pyproject.toml), which checks names only.
"""

from __future__ import annotations

import ast
from pathlib import Path

import hypervisor

SOURCES = Path(hypervisor.__file__).parent
LOOPS = {"get_event_loop", "get_running_loop", "new_event_loop"}


def test_the_clock_of_the_event_loop_is_read_nowhere() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{line}"
        for path in sorted(SOURCES.rglob("*.py"))
        for line in clock_reads(path.read_text())
    ]
    assert found == []


def test_the_check_finds_reads_of_the_clock() -> None:
    source = (
        "asyncio.get_running_loop().time()\nnow = get_event_loop().time\nloop.time()\nself._loop.time()\n"
    )
    assert clock_reads(source + "time.sleep(1)\nplay.time\n") == [1, 2, 3, 4]


def clock_reads(source: str) -> list[int]:
    """The lines with `.time` of an event loop."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "time" and _is_loop(node.value)
    )


def _is_loop(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return _name(node.func) in LOOPS
    return _name(node).lstrip("_") == "loop"


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
