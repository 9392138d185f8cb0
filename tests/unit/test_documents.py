"""What the documents point at exists: files of the repository, links, and headings that links name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FILES = [
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ("src", "tests", "docs", "deploy", "scripts", "benchmarks")
    for path in (ROOT / folder).rglob("*")
]

_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_PATH = re.compile(
    r"(?:src|tests|docs|deploy|scripts|benchmarks)/[\w./-]*\w|(?:[\w-]+/)+[\w-]+\.py|test_\w+\.py"
)


def paths_in(text: str) -> Iterator[str]:
    """The paths in inline code. A placeholder or a pattern (`<domain>`, `*`) is not a path."""
    for code in _CODE.findall(_FENCE.sub("", text)):
        if not re.search(r"[<>*{}]|\.\.\.", code):
            yield from (path for word in code.split() if (path := word.strip("\"'(),:")) and _is_path(path))


def is_file(path: str) -> bool:
    """Whether a file or folder has this path, or one that ends with it (`scoring/registry.py`)."""
    return any(file.endswith(f"/{path.rstrip('/')}") for file in FILES)


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        base = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        repeats = (f"{base}-{number}" for number in range(1, 100))
        found.add(base if base not in found else next(name for name in repeats if name not in found))
    return found


def broken_link(page: Path, target: str) -> bool:
    """Whether a relative link misses its file or its heading."""
    name, _, anchor = unquote(target).partition("#")
    file = page.parent / name if name else page
    if not file.exists():
        return True
    return bool(anchor) and anchor not in anchors_of(file.read_text(encoding="utf-8"))


def _is_path(word: str) -> bool:
    return _PATH.fullmatch(word.rstrip("/")) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_exists(page: Path) -> None:
    paths = set(paths_in(page.read_text(encoding="utf-8")))
    assert sorted(path for path in paths if not is_file(path)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    assert [target for target in _LINK.findall(text) if broken_link(page, target)] == []


def test_a_missing_path_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n## Again\n## Again\n`src/a.py` `b/c.py --x` `<d>/e.py` `f.py` `test_g.py`\n"
    )
    text = page.read_text()
    assert list(paths_in(text)) == ["src/a.py", "b/c.py", "test_g.py"]
    assert anchors_of(text) == {"one-two-three", "again", "again-1"}
    assert broken_link(page, "other.md")
    assert broken_link(page, "#none")
    assert not broken_link(page, "page.md#again-1")
