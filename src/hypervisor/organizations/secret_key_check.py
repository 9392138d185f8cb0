"""Whether SECRET_KEY is the key of this installation, and the way out when that key is lost.

Every organization has had an invite code, and its row stays after a revocation. So the encrypted forms of all
codes show which key encrypted the secrets, also those of deployments.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from hypervisor.errors import StartupError
from hypervisor.events.log import SYSTEM, record
from hypervisor.infra.security.encryption import Encryptor, key_id_of
from hypervisor.organizations.invites import PURPOSE
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Invite

_IN_USE = Invite.revoked_at.is_(None)


async def other_key_id(session: AsyncSession | AsyncConnection, encryptor: Encryptor) -> str | None:
    """The id of the key that encrypted the newest invite code, if this key can decrypt none of the codes."""
    newest = await session.scalar(select(Invite.code_encrypted).order_by(Invite.id.desc()).limit(1))
    readable = select(Invite.id).where(Invite.code_encrypted.startswith(encryptor.prefix)).limit(1)
    if newest is None or await session.scalar(readable) is not None:
        return None
    return key_id_of(newest)


async def check_secret_key(session: AsyncSession, encryptor: Encryptor) -> None:
    """Raise StartupError if the secrets of this database were encrypted with another key."""
    other = await other_key_id(session, encryptor)
    if other is not None:
        raise StartupError(
            f"the secrets in the database were encrypted with key {other}, but SECRET_KEY gives key "
            f"{encryptor.key_id}; set the SECRET_KEY (or the DATA_DIR with secret.key) that the server had "
            "before, or run `hypervisor replace-key` if it is lost"
        )


async def unreadable_invites(session: AsyncSession, encryptor: Encryptor) -> int:
    """The number of invite codes in use that this key cannot decrypt."""
    count = select(func.count()).select_from(Invite).where(_IN_USE, _unreadable(encryptor))
    return await session.scalar(count) or 0


async def revoke_unreadable_invites(session: WriteSession, encryptor: Encryptor, now: datetime) -> int:
    """Revoke every invite code that this key cannot decrypt, with an event each. Returns their number."""
    revoked = await session.scalars(
        update(Invite)
        .where(_IN_USE, _unreadable(encryptor))
        .values(revoked_at=now)
        .returning(Invite.organization_id)
        .execution_options(synchronize_session=False)
    )
    organizations = revoked.all()
    # No code is left that shows the old key: the next start takes this one, and no other.
    empty = encryptor.encrypt("", PURPOSE)
    await session.execute(update(Invite).where(_unreadable(encryptor)).values(code_encrypted=empty))
    for organization_id in organizations:
        record(
            session,
            organization_id=organization_id,
            at=now,
            actor=SYSTEM,
            type="invite.revoked",
            code="secret_key_replaced",
            message="The invite code was revoked, because the SECRET_KEY of the server was replaced.",
        )
    return len(organizations)


def _unreadable(encryptor: Encryptor) -> ColumnElement[bool]:
    return Invite.code_encrypted.not_like(f"{encryptor.prefix}%")
