"""`hypervisor migrate` and `create-superuser`: commands on the database, without a server."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from pydantic import ValidationError

from hypervisor.cli.core.configuration import load_settings, validation_message
from hypervisor.cli.core.database_access import printable_database, using_database
from hypervisor.cli.core.prompts import prompt, prompt_password
from hypervisor.cli.core.session import Session
from hypervisor.errors import StartupError
from hypervisor.identity.service import create_superuser as create_superuser_account
from hypervisor.infra.clock import SystemClock
from hypervisor.store.database import Database
from hypervisor.store.migrations.runner import current_revision, head_revision, upgrade


def migrate(context: typer.Context) -> None:
    """Update the schema of the database (DATABASE_URL) to this version."""
    session = Session.of(context)
    settings = load_settings()
    with using_database(settings.database_url):
        before, after = asyncio.run(_migrate(settings.database_url))
    shown = printable_database(settings.database_url)
    if before == after:
        text = f"{shown} is already at schema {after}."
    else:
        text = f"{shown} was updated from {f'schema {before}' if before else 'an empty database'} to {after}."
    session.show({"database": shown, "from": before, "to": after}, text)


def create_superuser(
    context: typer.Context,
    username: Annotated[
        str | None, typer.Option(envvar="HYPERVISOR_USERNAME", help="Username; default: prompt.")
    ] = None,
    email: Annotated[
        str | None, typer.Option(envvar="HYPERVISOR_EMAIL", help="E-mail address; default: prompt.")
    ] = None,
    password: Annotated[
        str | None, typer.Option(envvar="HYPERVISOR_PASSWORD", help="Password; default: prompt.")
    ] = None,
) -> None:
    """Create an account with all permissions, directly in the database (DATABASE_URL)."""
    session = Session.of(context)
    name = username or prompt("Username")
    address = email or prompt("E-mail")
    secret = password or prompt_password(confirm=True)
    url = load_settings().database_url
    with using_database(url):
        user_id = asyncio.run(_create_superuser(url, name, address, secret))
    session.show({"id": user_id, "username": name}, f"Created superuser {name} (id {user_id}).")
    session.note(f"Next: `hypervisor login {name}`, or open /admin/ of the server in a browser.")


async def _migrate(database_url: str) -> tuple[str | None, str | None]:
    before = await current_revision(database_url)
    await upgrade(database_url)
    return before, await current_revision(database_url)


async def _create_superuser(database_url: str, username: str, email: str, password: str) -> int:
    if await current_revision(database_url) != head_revision():
        await upgrade(database_url)
    database = Database(database_url)
    try:
        user = await create_superuser_account(database, SystemClock(), username, email, password)
        return user.id
    except ValidationError as error:
        raise StartupError(validation_message(error, uppercase=False)) from None
    finally:
        await database.close()
