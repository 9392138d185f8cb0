"""The code blocks of the documents, for tests that run them as an operator would."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, heading: str, language: str) -> list[str]:
    """The blocks of a language under a heading of a page (a path from the root), without its subsections."""
    text = (ROOT / page).read_text(encoding="utf-8")
    level, section = re.split(rf"^(#+) {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1:]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    assert level
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """The command lines of a console block, without prompt and output."""
    return [line[2:] for line in block.splitlines() if line.startswith(("$ ", "# "))]
