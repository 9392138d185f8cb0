"""serve, migrate, create-superuser: the commands that use the server's own modules and settings."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from hypervisor.cli.accounts import ask, ask_password
from hypervisor.cli.databases import printable_database, using_database
from hypervisor.cli.output import make_console
from hypervisor.cli.serving import run_server
from hypervisor.cli.session import Session
from hypervisor.errors import StartupError
from hypervisor.identity.service import create_superuser as make_superuser
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.observability.logging import configure_logging
from hypervisor.settings import Settings
from hypervisor.store.database import Database
from hypervisor.store.migrate import current_revision, head_revision, upgrade


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


def migrate(context: typer.Context) -> None:
    """Bring the database (DATABASE_URL) to the schema of this version."""
    session = Session.of(context)
    settings = load_settings()
    with using_database(settings.database_url):
        before, after = asyncio.run(_migrate(settings.database_url))
    shown = printable_database(settings.database_url)
    text = f"is at {after} already" if before == after else f"went from {before or 'nothing'} to {after}"
    session.show({"database": shown, "from": before, "to": after}, f"{shown} {text}.")


def create_superuser(
    context: typer.Context,
    username: Annotated[
        str | None, typer.Option(envvar="HYPERVISOR_USERNAME", help="Asked for else.")
    ] = None,
    email: Annotated[str | None, typer.Option(envvar="HYPERVISOR_EMAIL", help="Asked for else.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="HYPERVISOR_PASSWORD", help="Asked for else.")
    ] = None,
) -> None:
    """Make an account that may do everything, straight in the database (DATABASE_URL)."""
    session = Session.of(context)
    name = username or ask("Username")
    address = email or ask("E-mail")
    secret = password or ask_password(confirm=True)
    url = load_settings().database_url
    with using_database(url):
        user_id = asyncio.run(_create_superuser(url, name, address, secret))
    session.show({"id": user_id, "username": name}, f"Superuser {name} is made (id {user_id}).")
    session.note(f"Next: `hypervisor login {name}`, or /admin/ of the server in a browser.")


def load_settings() -> Settings:
    """The settings of this process. Raises StartupError with one line that names what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise StartupError(_complaints(error, capitals=True)) from None


async def _migrate(database_url: str) -> tuple[str | None, str | None]:
    before = await current_revision(database_url)
    await upgrade(database_url)
    return before, await current_revision(database_url)


async def _create_superuser(database_url: str, username: str, email: str, password: str) -> int:
    if await current_revision(database_url) != head_revision():
        await upgrade(database_url)
    database = Database(database_url)
    try:
        user = await make_superuser(database, SystemClock(), username, email, password)
        return user.id
    except ValidationError as error:
        raise StartupError(_complaints(error, capitals=False)) from None
    finally:
        await database.close()


def _complaints(error: ValidationError, *, capitals: bool) -> str:
    lines = []
    for each in error.errors():
        field = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        lines.append(f"{field.upper() if capitals else field}: {message}")
    return "; ".join(lines)
