"""The common options --url, --json, --org and --retry-seconds, before or after the command."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.main import get_command

_KEY = "hypervisor.options"


@dataclass
class Options:
    """Values from the command line, else from the environment; None when unset."""

    url: str | None = field(default_factory=lambda: os.environ.get("HYPERVISOR_URL") or None)
    json: bool = False
    organization: str | None = field(default_factory=lambda: os.environ.get("HYPERVISOR_ORG") or None)
    retry_seconds: float | None = None


def of(context: typer.Context) -> Options:
    """The common options of the running command."""
    # All contexts of a chain share one `meta` dictionary.
    options: Options = context.meta.setdefault(_KEY, Options())
    return options


def parameters(names: tuple[str, ...]) -> list[Any]:
    """Parameters for a command, by name. Their values go to `of(context)`, not to the command's function."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_template)
    return [parameter for parameter in get_command(app).params if parameter.name in names]


def _store_url(context: typer.Context, value: str | None) -> None:
    if value:
        of(context).url = value


def _store_json(context: typer.Context, value: bool) -> None:
    if value:
        of(context).json = True


def _store_organization(context: typer.Context, value: str | None) -> None:
    if value:
        of(context).organization = value


def _store_retry_seconds(context: typer.Context, value: float | None) -> None:
    if value is not None:
        of(context).retry_seconds = value


def _template(
    url: Annotated[
        str | None,
        typer.Option(
            callback=_store_url,
            expose_value=False,
            metavar="URL",
            help="Server URL; default: HYPERVISOR_URL, else the last login, else http://127.0.0.1:8000.",
        ),
    ] = None,
    organization: Annotated[
        str | None,
        typer.Option(
            "--org",
            callback=_store_organization,
            expose_value=False,
            metavar="ORG",
            help="Organization name or id; default: HYPERVISOR_ORG. Optional with a single organization.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", callback=_store_json, expose_value=False, help="Print JSON only."),
    ] = False,
    retry_seconds: Annotated[
        float | None,
        typer.Option(
            callback=_store_retry_seconds,
            expose_value=False,
            min=0,
            help="Seconds to go on while the server does not answer; default: HYPERVISOR_RETRY_SECONDS, "
            "else 300.",
        ),
    ] = None,
) -> None:
    """Declares the options; never called."""
