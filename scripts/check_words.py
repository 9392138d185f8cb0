"""Refuses the words of `words.toml` in the files given, or in all text files of the repository.

    python -m scripts.check_words [FILE ...]

It prints `file:line: word -> use ...` for each hit and exits with 1 if there is any.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
WORDS_FILE = ROOT / "scripts" / "words.toml"

FOLDERS = (".ci", ".github", "benchmarks", "deploy", "docs", "scripts", "src", "tests")
AT_THE_TOP = ("*.md", "*.toml", "*.yml", ".*.yaml", ".*.example", ".editorconfig", "Dockerfile", "Makefile")
SUFFIXES = {
    "",
    ".css",
    ".example",
    ".html",
    ".js",
    ".mako",
    ".md",
    ".py",
    ".service",
    ".toml",
    ".yaml",
    ".yml",
}
THIRD_PARTY = ("src/hypervisor/api/static/",)
EXEMPT = {"scripts/words.toml", "tests/unit/test_words.py"}
"""Text that has to name the words."""


class Hit(NamedTuple):
    line: int
    """Counted from 1; of a phrase over two lines the first."""
    word: str
    instead: str


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if no word was found, else 1."""
    words = read_words(WORDS_FILE)
    given = [Path(argument).resolve() for argument in arguments]
    hits = 0
    for path in filter(is_checked, given) if arguments else text_files():
        for hit in find(path.read_text(encoding="utf-8", errors="replace"), words):
            print(f"{path.relative_to(ROOT)}:{hit.line}: {hit.word} -> use {hit.instead}")
            hits += 1
    return 1 if hits else 0


def read_words(path: Path) -> dict[str, str]:
    """The refused words, each with what to write instead."""
    with path.open("rb") as file:
        words: dict[str, str] = tomllib.load(file)["words"]
    return words


def find(text: str, words: Mapping[str, str]) -> Iterator[Hit]:
    """Every refused word in the text, in the order of the text."""
    for found in _pattern(words).finditer(text):
        word = " ".join(_GAP.split(found[0].lower()))
        yield Hit(text.count("\n", 0, found.start()) + 1, word, words[word])


def text_files() -> list[Path]:
    """Every file that is checked, sorted."""
    top = (path for pattern in AT_THE_TOP for path in ROOT.glob(pattern))
    below = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return sorted(filter(is_checked, (*top, *below)))


def is_checked(path: Path) -> bool:
    """Whether the file is text that this project has written."""
    if not path.is_file() or not path.is_relative_to(ROOT):
        return False
    name = path.relative_to(ROOT).as_posix()
    return path.suffix in SUFFIXES and name not in EXEMPT and not name.startswith(THIRD_PARTY)


# Between two words of a phrase: spaces, a line break and the mark of a comment, an underscore in a name.
_GAP = re.compile(r"[\s#_]+")


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the words as a whole. An underscore is no part of a word, so parts of names count."""
    longest_first = sorted(words, key=len, reverse=True)
    phrases = (_GAP.pattern.join(map(re.escape, word.split())) for word in longest_first)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(phrases)})(?![^\W_])", re.IGNORECASE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
