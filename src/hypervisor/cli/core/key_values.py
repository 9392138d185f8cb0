"""Parsing of KEY=VALUE options."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def parse_pairs(texts: Sequence[str] | None, option: str = "--label") -> dict[str, str] | None:
    """`["a=1", "b=2"]` as a dictionary; None without any. Raises a usage error that names the option."""
    pairs: dict[str, str] = {}
    for key, value in (parse_pair(text, option) for text in texts or ()):
        if key in pairs:
            raise typer.BadParameter(f"{option} {key} is given twice; keep one")
        pairs[key] = value
    return pairs or None


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """`a=1` as key and value. Raises a usage error that names the option."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"{option} takes KEY=VALUE, not {text!r}")
    return key.strip(), value
