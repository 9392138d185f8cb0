"""`hypervisor replace-key` and `release-engine`: what an operator does after a loss, in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.database_access import using_database
from hypervisor.cli.core.session import Session
from hypervisor.control.leases.engine_registry import registered_engines, release_identity
from hypervisor.errors import StartupError
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.secret_key import load_secret_key
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.organizations.secret_key_check import revoke_unreadable_invites
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file
from hypervisor.store.database import Database, WriteSession

T = TypeVar("T")


def replace_key(context: typer.Context) -> None:
    """Accept the configured SECRET_KEY after the old one was lost.

    Invite codes that the key cannot decrypt are revoked. Secret values of deployments stay unreadable and
    must be set again.
    """
    session = Session.of(context)
    settings = load_settings()
    encryptor = Encryptor(load_secret_key(settings))
    now = datetime.now(UTC)
    revoked = _in_database(settings, lambda write: revoke_unreadable_invites(write, encryptor, now))
    session.show(
        {"key_id": encryptor.key_id, "revoked_invites": revoked},
        f"The key {encryptor.key_id} is accepted. Revoked invite codes: {revoked}.",
    )
    session.note(
        "Next: hypervisor serve. Admins create invite codes with `hypervisor org invite`, and owners set the "
        "secret values of their deployments again."
    )


def release_engine(
    context: typer.Context,
    runtime: Annotated[str, typer.Argument(help="Runtime of the engine, for example process.")],
    endpoint: Annotated[
        str | None, typer.Argument(help="Address of the engine; leave it out for the default engine.")
    ] = None,
) -> None:
    """Give up an engine whose machine is lost: its attempts count as lost, and another machine may use it."""
    session = Session.of(context)
    engine = EngineRef(runtime, endpoint)
    now = datetime.now(UTC)

    async def release(write: WriteSession) -> None:
        if not await release_identity(write, engine, now):
            raise StartupError(f"no engine {engine} has an identity; {await _choices(write)}")

    _in_database(load_settings(), release)
    session.show(
        {"runtime": runtime, "endpoint": endpoint}, f"The engine {engine} is released from its machine."
    )
    session.note("The next scheduler that reaches an engine of this name takes it over within seconds.")


async def _choices(write: WriteSession) -> str:
    engines = await registered_engines(write)
    names = sorted(
        str(EngineRef(row.runtime, row.endpoint)) for row in engines.values() if row.engine_identity
    )
    return f"engines with one: {', '.join(names)}" if names else "there is none to release"


def _in_database(settings: Settings, work: Callable[[WriteSession], Awaitable[T]]) -> T:
    """Run `work` in one transaction on DATABASE_URL. Raises StartupError if its file does not exist."""
    file = database_file(settings.database_url)
    if file is not None and not file.exists():
        raise StartupError(f"there is no database at {file}; set DATABASE_URL as for the server")

    async def run() -> T:
        database = Database(settings.database_url)
        try:
            return await database.transact(work)
        finally:
            await database.close()

    with using_database(settings.database_url):
        return asyncio.run(run())
