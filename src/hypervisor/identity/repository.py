"""Queries for users, sessions, refresh tokens and login throttles."""

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
    """An organization, and the role of the user in it."""

    id: int
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Login:
    """A session that was not revoked, its active user and their organizations. It may have expired."""

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
    """The active user of a session that is neither revoked nor expired. None otherwise."""
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
    """Load the sessions that are not revoked and have an active user, in one query, by session id."""
    rows = await connection.execute(_LOGINS, {"ids": sorted(set(session_ids))})
    by_session: dict[str, Login] = {}
    for session_id, expires_at, user_id, username, is_superuser, organization_id, name, role in rows:
        login = by_session.get(session_id)
        if login is None:
            login = by_session[session_id] = Login(user_id, username, is_superuser, expires_at, [])
        if organization_id is not None:
            login.memberships.append(MembershipRow(organization_id, name, role))
    return by_session


async def find_user(session: AsyncSession, key: str) -> User | None:
    """Find a user by folded username or e-mail address. A username has no @, so the two never collide."""
    return await session.scalar(
        select(User).where(or_(User.username_normalized == key, User.email_normalized == key))
    )


async def taken_fields(session: AsyncSession, username_normalized: str, email_normalized: str) -> set[str]:
    """Return which of "username" and "email" another user has."""
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
    """End one login. Its access tokens stop working when this transaction commits."""
    await session.execute(
        update(LoginSession)
        .where(LoginSession.id == session_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=now, revoked_reason=reason)
    )


async def revoke_user_sessions(
    session: WriteSession, user_id: int, reason: str, now: datetime, *, keep: str | None = None
) -> None:
    """End all logins of a user except the session `keep`."""
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
    """Mark a token as used in one conditional UPDATE. Return its session id; None for an invalid token."""
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
    """The session id of a used token. None for an unknown token and for an expired unused one."""
    return await session.scalar(
        select(RefreshToken.session_id).where(
            RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_not(None)
        )
    )


async def throttle(session: AsyncSession, account: str) -> LoginThrottle | None:
    """The failed logins of an account. None if there are none."""
    return await session.get(LoginThrottle, account)


async def locked_throttle(session: WriteSession, account: str, now: datetime) -> LoginThrottle:
    """The row of an account, created if missing, locked until the end of the transaction."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"account": account, "failures": 0, "updated_at": now}
    await session.execute(insert(LoginThrottle).values(values).on_conflict_do_nothing())
    return await session.get_one(LoginThrottle, account, with_for_update=True, populate_existing=True)


async def clear_throttle(session: WriteSession, account: str) -> None:
    """Delete the failed logins of an account."""
    await session.execute(delete(LoginThrottle).where(LoginThrottle.account == account))


async def count_users(session: AsyncSession) -> int:
    """The number of users, active or not."""
    return await session.scalar(select(func.count()).select_from(User)) or 0
