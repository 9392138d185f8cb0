"""The command `hypervisor serve`.

This module must not import the SDK: a server process would keep it in memory without using it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hypervisor.cli.commands.serve.server import run_server
from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.env_file import misspelt_settings
from hypervisor.cli.core.output import make_console
from hypervisor.infra.observability.logging import configure_logging
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.snapshots.wording import listed


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1 (HOST).")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on, 0 for any free one; default 8000 (PORT)."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="sqlite:///FILE or postgresql://...; default "
            "sqlite:///hypervisor-data/hypervisor.db (DATABASE_URL)."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for workloads and logs; default hypervisor-data (DATA_DIR)."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help=f"Runtime of clusters without one: {listed(runtime_choices(), 'or')}; the first is the "
            "default (DEFAULT_RUNTIME)."
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(help="all (default), api (requests only) or scheduler (control loops only) (ROLE)."),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info (default), warning or error (LOG_LEVEL).")
    ] = None,
) -> None:
    """Run the server.

    Each option sets the environment variable in parentheses. The variables can also be in a .env file.
    """
    options = {
        "HOST": host,
        "PORT": port,
        "DATABASE_URL": database_url,
        "DATA_DIR": data_dir,
        "DEFAULT_RUNTIME": runtime,
        "ROLE": role,
        "LOG_LEVEL": log_level,
    }
    # The app reads its settings from the environment.
    os.environ.update({name: str(value) for name, value in options.items() if value is not None})
    settings = load_settings()
    console = make_console(stderr=True)
    for found in misspelt_settings():
        console.print(f"warning: {found.sentence}")
    configure_logging(settings)
    run_server(settings, console)
