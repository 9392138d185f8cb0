"""Rows of users, sessions, refresh tokens and login throttles."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import (
    LoginSession,
    LoginThrottle,
    Membership,
    Organization,
    RefreshToken,
    User,
)


@dataclass(frozen=True, slots=True)
class MembershipRow:
    """An organization with the role in it."""

    id: int
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Login:
    """A session that was not ended, with its active user and their organizations; it may have expired."""

    user_id: int
    username: str
    is_superuser: bool
    expires_at: datetime
    memberships: list[MembershipRow]


_LOGINS = (
    select(
        LoginSession.id,
        LoginSession.expires_at,
        User.id,
        User.username,
        User.is_superuser,
        Organization.id,
        Organization.name,
        Membership.role,
    )
    .join(User, LoginSession.user_id == User.id)
    .outerjoin(Membership, Membership.user_id == User.id)
    .outerjoin(Organization, Organization.id == Membership.organization_id)
    .where(
        LoginSession.id.in_(bindparam("ids", expanding=True)),
        LoginSession.revoked_at.is_(None),
        User.is_active,
    )
    .order_by(Organization.id)
)


async def user_of_live_session(session: AsyncSession, session_id: str, now: datetime) -> User | None:
    """The active user of a session that has neither ended nor expired."""
    return await session.scalar(
        select(User)
        .join(LoginSession, LoginSession.user_id == User.id)
        .where(
            LoginSession.id == session_id,
            LoginSession.revoked_at.is_(None),
            LoginSession.expires_at > now,
            User.is_active,
        )
    )


async def logins(connection: AsyncConnection, session_ids: Collection[str]) -> dict[str, Login]:
    """Those of the sessions that nobody has ended and whose users are active, in one query."""
    rows = await connection.execute(_LOGINS, {"ids": sorted(set(session_ids))})
    found: dict[str, Login] = {}
    for session_id, expires_at, user_id, username, is_superuser, organization_id, name, role in rows:
        login = found.get(session_id)
        if login is None:
            login = found[session_id] = Login(user_id, username, is_superuser, expires_at, [])
        if organization_id is not None:
            login.memberships.append(MembershipRow(organization_id, name, role))
    return found


async def find_user(session: AsyncSession, key: str) -> User | None:
    """By folded username or address; usernames hold no @, so the two never meet."""
    return await session.scalar(
        select(User).where(or_(User.username_normalized == key, User.email_normalized == key))
    )


async def taken_fields(session: AsyncSession, username_normalized: str, email_normalized: str) -> set[str]:
    """Which of "username" and "email" somebody has already."""
    rows = await session.execute(
        select(User.username_normalized, User.email_normalized).where(
            or_(User.username_normalized == username_normalized, User.email_normalized == email_normalized)
        )
    )
    taken: set[str] = set()
    for row in rows:
        taken |= {"username"} if row.username_normalized == username_normalized else set()
        taken |= {"email"} if row.email_normalized == email_normalized else set()
    return taken


async def revoke_session(session: WriteSession, session_id: str, reason: str, now: datetime) -> None:
    """End one login; its access tokens stop working with this transaction."""
    await session.execute(
        update(LoginSession)
        .where(LoginSession.id == session_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=now, revoked_reason=reason)
    )


async def revoke_user_sessions(
    session: WriteSession, user_id: int, reason: str, now: datetime, *, keep: str | None = None
) -> None:
    """End all logins of a user but `keep`."""
    await session.execute(
        update(LoginSession)
        .where(
            LoginSession.user_id == user_id,
            LoginSession.revoked_at.is_(None),
            LoginSession.id != (keep or ""),
        )
        .values(revoked_at=now, revoked_reason=reason)
    )


async def consume_refresh_token(session: WriteSession, token_hash: str, now: datetime) -> str | None:
    """Use a token up in one conditional UPDATE. Returns its session's id, None when it cannot be used."""
    return await session.scalar(
        update(RefreshToken)
        .where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.used_at.is_(None),
            RefreshToken.expires_at > now,
        )
        .values(used_at=now)
        .returning(RefreshToken.session_id)
    )


async def session_of_used_token(session: WriteSession, token_hash: str) -> str | None:
    """The session of a token that was used before; None for unknown or merely expired tokens."""
    return await session.scalar(
        select(RefreshToken.session_id).where(
            RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_not(None)
        )
    )


async def throttle(session: AsyncSession, account: str) -> LoginThrottle | None:
    return await session.get(LoginThrottle, account)


async def locked_throttle(session: WriteSession, account: str, now: datetime) -> LoginThrottle:
    """The account's row, made if missing, locked until the end of the transaction."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"account": account, "failures": 0, "updated_at": now}
    await session.execute(insert(LoginThrottle).values(values).on_conflict_do_nothing())
    return await session.get_one(LoginThrottle, account, with_for_update=True, populate_existing=True)


async def clear_throttle(session: WriteSession, account: str) -> None:
    await session.execute(delete(LoginThrottle).where(LoginThrottle.account == account))


async def count_users(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(User)) or 0
