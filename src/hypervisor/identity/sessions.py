"""Logins: the password check with its back-off, sessions, and the rotation of refresh tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import update

from hypervisor.api.services import AppServices
from hypervisor.errors import TooManyRequests, Unauthenticated
from hypervisor.identity import policy, repository
from hypervisor.identity.schemas import TokenResponse
from hypervisor.infra.ratelimit import address_key, too_many_requests
from hypervisor.infra.security.tokens import AccessClaims, hash_secret, new_secret
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.text import fold
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import LoginSession, LoginThrottle, RefreshToken, User


async def login(services: AppServices, name: str, password: str, address: str | None) -> TokenResponse:
    """Start a session for a username or e-mail address.

    Raises Unauthenticated in the same words for unknown, inactive and wrong; TooManyRequests.
    """
    await limit_address(services, address)
    user = await check_password(services, name, password)
    if user is None:
        raise _refused()
    now = services.clock.now()
    async with services.database.write() as session:
        current = await session.get(User, user.id, with_for_update=True)
        # A password changed since the check has ended all sessions; this must not become one more.
        if current is None or not current.is_active or current.password_hash != user.password_hash:
            raise _refused()
        login_session = LoginSession(
            id=secrets.token_hex(16),
            user_id=user.id,
            created_at=now,
            expires_at=now + policy.SESSION_LIFETIME,
        )
        session.add(login_session)
        await session.flush()
        refresh_token = _add_refresh_token(session, login_session, now)
    await _rehash(services, user, password)
    return _answer(services, user.id, login_session.id, refresh_token, now)


async def refresh(services: AppServices, refresh_token: str) -> TokenResponse:
    """Exchange a refresh token for a new pair; a second use of one ends its whole session.

    Raises Unauthenticated.
    """
    now = services.clock.now()
    async with services.database.write() as session:
        rotated = await _rotate(session, hash_secret(refresh_token), now)
    # Raised only here, outside of the transaction: ending a session on reuse must be committed.
    if rotated is None:
        raise Unauthenticated(
            "invalid_refresh_token",
            "The refresh token is not valid, was used before or is over; log in again.",
        )
    user_id, session_id, new_token = rotated
    return _answer(services, user_id, session_id, new_token, now)


async def check_password(services: AppServices, name: str, password: str) -> User | None:
    """The active user with this name (or address) and password, else None after counting a failure.

    Unknown names take as long and are counted alike. Raises TooManyRequests while the account must wait;
    who guesses in parallel learns nothing either, because the wait is looked at again after the check.
    """
    key = fold(name.strip())
    async with services.database.read() as session:
        user = await repository.find_user(session, key)
        account = _account(user.username_normalized if user else key)
        _refuse_while_blocked(await repository.throttle(session, account), services.clock.now())
    right = await services.passwords.verify(password, user.password_hash if user else None)
    now = services.clock.now()
    async with services.database.write() as session:
        if right:
            _refuse_while_blocked(await repository.throttle(session, account), now)
            await repository.clear_throttle(session, account)
        else:
            await _count_failure(session, account, now)
    return user if right and user is not None and user.is_active else None


async def limit_address(services: AppServices, address: str | None) -> None:
    """Count one login try of a network address. Raises TooManyRequests."""
    await services.limiter.check(policy.LOGINS_PER_ADDRESS, "logins", address_key(address))


async def purge(database: Database, now: datetime) -> None:
    """Forget old failures, and tokens and sessions that are long over. For the janitor."""
    over = now - timedelta(days=1)
    forgotten = LoginThrottle.updated_at < now - policy.FAILURES_FORGOTTEN_AFTER
    await delete_in_batches(database, LoginThrottle.account, forgotten, oldest_first=LoginThrottle.updated_at)
    await delete_in_batches(
        database, RefreshToken.id, RefreshToken.expires_at < over, oldest_first=RefreshToken.expires_at
    )
    await delete_in_batches(
        database, LoginSession.id, LoginSession.expires_at < over, oldest_first=LoginSession.expires_at
    )


async def _rotate(session: WriteSession, token_hash: str, now: datetime) -> tuple[int, str, str] | None:
    """User id, session id and new token; None when refused (a used token also ends its session)."""
    session_id = await repository.consume_refresh_token(session, token_hash, now)
    if session_id is None:
        reused = await repository.session_of_used_token(session, token_hash)
        if reused is not None:
            await repository.revoke_session(session, reused, "refresh token used twice", now)
        return None
    reached("refresh_after_revoke_before_issue")
    user = await repository.user_of_live_session(session, session_id, now)
    login_session = await session.get(LoginSession, session_id)
    if user is None or login_session is None:
        return None
    return user.id, session_id, _add_refresh_token(session, login_session, now)


def _add_refresh_token(session: WriteSession, login_session: LoginSession, now: datetime) -> str:
    token = new_secret()
    session.add(
        RefreshToken(
            session_id=login_session.id,
            token_hash=hash_secret(token),
            created_at=now,
            expires_at=min(now + policy.REFRESH_IDLE, login_session.expires_at),
        )
    )
    return token


def _answer(
    services: AppServices, user_id: int, session_id: str, refresh_token: str, now: datetime
) -> TokenResponse:
    return TokenResponse(
        access_token=services.tokens.issue(AccessClaims(user_id, session_id), now),
        refresh_token=refresh_token,
        expires_in=int(services.tokens.lifetime.total_seconds()),
    )


async def _count_failure(session: WriteSession, account: str, now: datetime) -> None:
    row = await repository.locked_throttle(session, account, now)
    row.failures = policy.failures_so_far(row.failures, row.updated_at, now) + 1
    row.blocked_until = now + policy.backoff(row.failures)
    row.updated_at = now


def _refuse_while_blocked(row: LoginThrottle | None, now: datetime) -> None:
    if row is not None and row.blocked_until is not None and row.blocked_until > now:
        raise _must_wait(row.blocked_until - now)


def _must_wait(wait: timedelta) -> TooManyRequests:
    seconds = wait.total_seconds()
    return too_many_requests(
        "login_backoff", f"Too many failed logins for this account; try again in {seconds:.0f} s.", seconds
    )


async def _rehash(services: AppServices, user: User, password: str) -> None:
    """Replace a hash of an older kind now that the password is at hand."""
    if not services.passwords.needs_rehash(user.password_hash):
        return
    new_hash = await services.passwords.hash(password)
    async with services.database.write() as session:
        await session.execute(
            update(User)
            .where(User.id == user.id, User.password_hash == user.password_hash)
            .values(password_hash=new_hash)
        )


def _refused() -> Unauthenticated:
    return Unauthenticated(
        "invalid_credentials",
        "The username or password is not right.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _account(key: str) -> str:
    """Throttles are kept by hash: people type passwords into the name field, and names may be long."""
    return hashlib.sha256(key.encode()).hexdigest()
