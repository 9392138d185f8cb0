"""The options that every command takes, before or after its name: --url, --json, --org."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.main import get_command

_KEY = "hypervisor.options"


@dataclass
class Options:
    """What was given on the command line, else in the environment; None means: not said."""

    url: str | None = field(default_factory=lambda: os.environ.get("HYPERVISOR_URL") or None)
    json: bool = False
    organization: str | None = field(default_factory=lambda: os.environ.get("HYPERVISOR_ORG") or None)


def of(context: typer.Context) -> Options:
    """The common options of the running command."""
    # `meta` is one dictionary for the whole chain of contexts.
    found: Options = context.meta.setdefault(_KEY, Options())
    return found


def parameters(names: tuple[str, ...]) -> list[Any]:
    """Parameters to add to a command; their values go to `of(context)`, not to the command's function."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_template)
    return [parameter for parameter in get_command(app).params if parameter.name in names]


def _keep_url(context: typer.Context, value: str | None) -> None:
    if value:
        of(context).url = value


def _keep_json(context: typer.Context, value: bool) -> None:
    if value:
        of(context).json = True


def _keep_organization(context: typer.Context, value: str | None) -> None:
    if value:
        of(context).organization = value


def _template(
    url: Annotated[
        str | None,
        typer.Option(
            callback=_keep_url,
            expose_value=False,
            metavar="URL",
            help="The server; else HYPERVISOR_URL, the one you logged in to, or http://127.0.0.1:8000.",
        ),
    ] = None,
    organization: Annotated[
        str | None,
        typer.Option(
            "--org",
            callback=_keep_organization,
            expose_value=False,
            metavar="ORG",
            help="Organization by name or id, else HYPERVISOR_ORG; not needed when you belong to one.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", callback=_keep_json, expose_value=False, help="Print JSON and nothing else."),
    ] = False,
) -> None:
    """Holds the declarations; never called."""
