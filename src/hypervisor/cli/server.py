"""serve: the command, and the settings of its process.

What needs the API's client stays out of here: a server would keep it in memory and never call it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from hypervisor.cli.output import make_console
from hypervisor.cli.serving import run_server
from hypervisor.errors import StartupError
from hypervisor.infra.observability.logging import configure_logging
from hypervisor.settings import Settings


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


def load_settings() -> Settings:
    """The settings of this process. Raises StartupError with one line that names what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise StartupError(complaints(error, capitals=True)) from None


def complaints(error: ValidationError, *, capitals: bool) -> str:
    """What is wrong with each field, in one line."""
    lines = []
    for each in error.errors():
        field = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        lines.append(f"{field.upper() if capitals else field}: {message}")
    return "; ".join(lines)
