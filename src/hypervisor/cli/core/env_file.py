"""Checks of the `.env` file, and names of variables that look like misspelt settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from hypervisor.errors import StartupError
from hypervisor.settings import Settings

ENV_FILE = Path(".env")
_BYTE_ORDER_MARK = "\ufeff"
_FILE_CUTOFF = 0.8
_ENVIRONMENT_CUTOFF = 0.9
"""Similarity from which a name counts as misspelt (`difflib`). An environment has many foreign names."""
_SHORTEST = 6
"""Least characters of a name in the environment: shorter ones are too often foreign."""


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A variable that is no setting, with the setting of the nearest name. `source` is for people."""

    name: str
    nearest: str
    source: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.name} in {self.source} is not a setting and has no effect; did you mean {self.nearest}?"
        )


def env_file_names(path: Path = ENV_FILE) -> list[str]:
    """The names in the file; empty without a file.

    Raises StartupError, with the line, for a file that is not UTF-8 or has a line that is not NAME=VALUE.
    """
    if not path.is_file():
        return []
    text = _read(path)
    bindings = list(parse_stream(StringIO(text)))
    for binding in bindings:
        if binding.error:
            string, line = binding.original
            line += string[: len(string) - len(string.lstrip())].count("\n")
            # Not the text of the line, which may have a secret.
            raise StartupError(f"{path}, line {line}: not NAME=VALUE; correct the line")
    return [binding.key for binding in bindings if binding.key]


def misspelt_settings(path: Path = ENV_FILE, environment: Mapping[str, str] | None = None) -> list[Misspelt]:
    """The variables that look like misspelt settings, from the file and the environment."""
    variables = os.environ if environment is None else environment
    in_file = env_file_names(path)
    in_use = {name.upper() for name in (*in_file, *variables)}
    long_names = (name for name in variables if len(name) >= _SHORTEST)
    return [
        *_misspelt(in_file, in_use, _FILE_CUTOFF, str(path)),
        *_misspelt(long_names, in_use, _ENVIRONMENT_CUTOFF, "the environment"),
    ]


def _misspelt(names: Iterable[str], in_use: set[str], cutoff: float, source: str) -> Iterator[Misspelt]:
    settings = [name.upper() for name in Settings.model_fields]
    for name in names:
        if name.upper() in settings:
            continue
        nearest = get_close_matches(name.upper(), settings, n=1, cutoff=cutoff)
        if nearest and nearest[0] not in in_use:
            yield Misspelt(name, nearest[0], source)


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StartupError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    if text.startswith(_BYTE_ORDER_MARK):
        raise StartupError(f"{path} begins with a byte order mark; save the file as UTF-8 without it")
    return text
