"""`hypervisor replace-key` and `release-engine`: what an operator does after a loss, in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, TypeVar

import typer
from sqlalchemy import func, select

from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.database_access import using_database
from hypervisor.cli.core.session import Session
from hypervisor.control.leases.engine_registry import registered_engines, release_identity
from hypervisor.deployments.spec.lost_secrets import Rekeyed, find_rekeyed, store_rekeyed
from hypervisor.errors import StartupError
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.secret_key import existing_secret_key
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.organizations.secret_key_check import (
    other_key_id,
    revoke_unreadable_invites,
    unreadable_invites,
)
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.file_lock import sole_server
from hypervisor.store.tables import Server

T = TypeVar("T")
_SHOWN = 20
"""Number of deployments that are listed for people."""


class KeyLosses(NamedTuple):
    """What the configured key cannot decrypt, and whether another key is the one of the database."""

    other_key: str | None
    invites: int
    deployments: list[Rekeyed]

    @property
    def secrets(self) -> int:
        return sum(len(one.lost) for one in self.deployments)

    def __str__(self) -> str:
        return f"{self.invites} invite code(s) and {self.secrets} secret value(s) of deployments"


def replace_key(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Give up the invite codes and secret values of the old key.")
    ] = False,
) -> None:
    """Accept the configured SECRET_KEY after the old one was lost. Refused while a server runs.

    Invite codes that the key cannot decrypt are revoked. Secret values of deployments are lost and must be
    set again. The key is never generated here.
    """
    session = Session.of(context)
    settings = load_settings()
    encryptor = Encryptor(existing_secret_key(settings))
    now = datetime.now(UTC)

    async def replace(write: WriteSession) -> KeyLosses:
        losses = await _losses(write, encryptor)
        if losses.other_key is None and not losses.invites and not losses.deployments:
            return losses
        await _refuse_live_servers(write)
        if not force:
            raise StartupError(
                f"the key {encryptor.key_id} cannot decrypt {losses}; set the SECRET_KEY (or the DATA_DIR "
                "with secret.key) that the server had before, or give them up with --force"
            )
        await revoke_unreadable_invites(write, encryptor, now)
        await store_rekeyed(write, losses.deployments, now)
        return losses

    losses = _in_database(settings, replace, alone=True)
    _report(session, encryptor.key_id, losses)


async def _losses(write: WriteSession, encryptor: Encryptor) -> KeyLosses:
    return KeyLosses(
        await other_key_id(write, encryptor),
        await unreadable_invites(write, encryptor),
        await find_rekeyed(write, encryptor),
    )


async def _refuse_live_servers(write: WriteSession) -> None:
    """Raise StartupError while a server with control loops is alive; the file lock covers SQLite."""
    if write.get_bind().dialect.name == "sqlite":
        return
    host = await write.scalar(select(Server.host).where(Server.expires_at > func.now()).limit(1))
    if host is not None:
        raise StartupError(f"a server uses this database ({host}): stop all servers, then try again")


def _report(session: Session, key_id: str, losses: KeyLosses) -> None:
    deployments = [{"id": one.id, "name": one.name, "secrets": one.lost} for one in losses.deployments]
    changed = losses.other_key is not None or bool(losses.invites or deployments)
    session.show(
        {
            "key_id": key_id,
            "replaced": changed,
            "revoked_invites": losses.invites,
            "lost_secrets": losses.secrets,
            "deployments": deployments,
        },
        f"The key {key_id} is accepted. Given up: {losses}."
        if changed
        else f"The key {key_id} is right: there is nothing to do.",
    )
    for one in losses.deployments[:_SHOWN]:
        if one.lost:
            session.note(f"{one.name} (id {one.id}): set {', '.join(one.lost)} again")
    if len(losses.deployments) > _SHOWN:
        session.note(f"... and {len(losses.deployments) - _SHOWN} more: --json lists all")
    if changed:
        session.note(
            "Next: hypervisor serve. Admins create invite codes with `hypervisor org invite --regenerate`, "
            "and owners set the secret values of their deployments again."
        )


def release_engine(
    context: typer.Context,
    runtime: Annotated[str, typer.Argument(help="Runtime of the engine, for example docker.")],
    endpoint: Annotated[
        str | None, typer.Argument(help="Address of the engine; leave it out for the default engine.")
    ] = None,
) -> None:
    """Give up an engine whose machine is lost: its attempts count as lost, and another machine may use it.

    For servers that share PostgreSQL; with SQLite there is nothing to give up. For example:

    hypervisor release-engine docker tcp://gpu-7:2376
    """
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
    if not names:
        return "there is none to release, as only servers that share PostgreSQL record identities"
    return f"engines with one: {', '.join(names)}"


def _in_database(
    settings: Settings, work: Callable[[WriteSession], Awaitable[T]], *, alone: bool = False
) -> T:
    """Run `work` in one transaction on DATABASE_URL. Raises StartupError if its file does not exist.

    With `alone` also if a server uses the file.
    """
    file = database_file(settings.database_url)
    if file is not None and not file.exists():
        raise StartupError(f"there is no database at {file}; set DATABASE_URL as for the server")

    async def run() -> T:
        database = Database(settings.database_url)
        try:
            return await database.transact(work)
        finally:
            await database.close()

    lock = sole_server(settings.database_url) if alone else nullcontext()
    with using_database(settings.database_url), lock:
        return asyncio.run(run())
