"""serve.

What needs the API's client stays out of here: a server would keep it in memory and never call it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hypervisor.cli.commands.serve.server import run_server
from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.output import make_console
from hypervisor.infra.observability.logging import configure_logging


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, 0 for any free one (PORT).")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="sqlite:/// or postgresql:// (DATABASE_URL).")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for workloads and logs (DATA_DIR).")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="auto, docker, process or simulated (DEFAULT_RUNTIME).")
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="all, api (requests only) or scheduler (loops only) (ROLE).")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (LOG_LEVEL).")] = None,
) -> None:
    """Run the server. Everything can also be set in the environment or in a .env file."""
    given = {
        "HOST": host,
        "PORT": port,
        "DATABASE_URL": database_url,
        "DATA_DIR": data_dir,
        "DEFAULT_RUNTIME": runtime,
        "ROLE": role,
        "LOG_LEVEL": log_level,
    }
    # The app reads its settings from the environment itself; this is how options reach it.
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings = load_settings()
    configure_logging(settings)
    run_server(settings, make_console(stderr=True))
