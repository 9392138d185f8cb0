"""Construction of a command group, such as `hypervisor cluster`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class CommandGroup(TyperGroup):
    """A group whose help has the whole first sentence of each command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, _first_sentence(self.get_command(ctx, name))) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def make_group(help_text: str) -> typer.Typer:
    """A group that prints its help when it is called without a command."""
    app = typer.Typer(
        cls=CommandGroup,
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        invoke_without_command=True,
    )

    @app.callback()
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app


def _first_sentence(command: Any) -> str:
    paragraph = " ".join((command.help or "").split("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return f"{sentence}." if dot else sentence
