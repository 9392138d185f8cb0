"""Renamed options.

The old name is accepted for one version, with a note on stderr, and is not in the help. Both names together
are wrong usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand


class WithOldFlags(TyperCommand):
    """A command that accepts old names of its options; subclasses fill in `old_flags`."""

    old_flags: ClassVar[Mapping[str, str]] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = {text.partition("=")[0] for text in args}
        for old, new in self.old_flags.items():
            if {old, new} <= given:
                raise typer.BadParameter(f"give {new} only; {old} is its old name", ctx=ctx)
        return super().parse_args(ctx, [self._with_new_flag(text) for text in args])

    def _with_new_flag(self, text: str) -> str:
        old, equals, value = text.partition("=")
        new = self.old_flags.get(old)
        if new is None:
            return text
        note_old_name(old, new)
        return f"{new}{equals}{value}"


def note_old_name(old: str, new: str) -> None:
    """Print on stderr that `old` is the old name of `new`."""
    typer.echo(f"note: {old} is now {new}; the next version removes the old name", err=True)
