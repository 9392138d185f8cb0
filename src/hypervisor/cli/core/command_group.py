"""Construction of a command group, such as `hypervisor cluster`."""

from __future__ import annotations

import typer


def make_group(help_text: str) -> typer.Typer:
    """A group that prints its help when it is called without a command."""
    app = typer.Typer(
        help=help_text, add_completion=False, rich_markup_mode=None, invoke_without_command=True
    )

    @app.callback()
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app
