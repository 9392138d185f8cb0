"""Logins: the password check with its backoff, sessions, the rotation of refresh tokens, password changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update

from hypervisor.api.services import AppServices
from hypervisor.errors import Conflict, Forbidden, Invalid, TooManyRequests, Unauthenticated
from hypervisor.identity import policy, repository
from hypervisor.identity.principal import Principal
from hypervisor.identity.schemas import TokenResponse
from hypervisor.infra.randomness import random_hex
from hypervisor.infra.ratelimit import RateLimiter, address_key, too_many_requests
from hypervisor.infra.security.passwords import Passwords
from hypervisor.infra.security.tokens import AccessClaims, AccessTokens, hash_secret, new_secret
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.text import fold
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import LoginSession, LoginThrottle, RefreshToken, User


@dataclass(frozen=True, slots=True)
class Logins:
    """Checks and changes passwords, and starts, renews and ends sessions."""

    _database: Database
    _clock: Clock
    _limiter: RateLimiter
    _passwords: Passwords
    _tokens: AccessTokens

    @classmethod
    def of(cls, services: AppServices) -> Logins:
        """Return the logins over the services of the app."""
        return cls(services.database, services.clock, services.limiter, services.passwords, services.tokens)

    async def login(self, name: str, password: str, address: str | None) -> TokenResponse:
        """Start a session for a username or e-mail address.

        Raises Unauthenticated with one message for unknown users, inactive users and wrong passwords, and
        TooManyRequests.
        """
        await self.limit_address(address)
        user = await self.check_password(name, password)
        if user is None:
            raise _invalid_credentials()
        now = self._clock.now()
        async with self._database.write() as session:
            current = await session.get(User, user.id, with_for_update=True)
            # A password change since the check has ended all sessions. This session must not be created.
            if current is None or not current.is_active or current.password_hash != user.password_hash:
                raise _invalid_credentials()
            login_session = LoginSession(
                id=random_hex(16),
                user_id=user.id,
                created_at=now,
                expires_at=now + policy.SESSION_LIFETIME,
            )
            session.add(login_session)
            await session.flush()
            refresh_token = _add_refresh_token(session, login_session, now)
        await self._rehash(user, password)
        return self._token_response(user.id, login_session.id, refresh_token, now)

    async def refresh(self, refresh_token: str) -> TokenResponse:
        """Exchange a refresh token for a new pair. A second use of a token ends its session.

        Raises Unauthenticated.
        """
        now = self._clock.now()
        async with self._database.write() as session:
            rotated = await _rotate(session, hash_secret(refresh_token), now)
        # Raised outside of the transaction, because the end of the session on reuse must be committed.
        if rotated is None:
            raise Unauthenticated(
                "invalid_refresh_token",
                "The refresh token is not valid, was used before or has expired. Log in again.",
            )
        user_id, session_id, new_token = rotated
        return self._token_response(user_id, session_id, new_token, now)

    async def check_password(self, name: str, password: str) -> User | None:
        """Return the active user with this username or address and password. None counts as a failure.

        An unknown name takes as long and counts like a wrong password. Raises TooManyRequests during the
        backoff of the account. The backoff is checked again after the password, so parallel guesses learn
        nothing.
        """
        key = fold(name.strip())
        async with self._database.read() as session:
            user = await repository.find_user(session, key)
            account = _account(user.username_normalized if user else key)
            _check_backoff(await repository.throttle(session, account), self._clock.now())
        is_right = await self._passwords.verify(password, user.password_hash if user else None)
        now = self._clock.now()
        async with self._database.write() as session:
            if is_right:
                _check_backoff(await repository.throttle(session, account), now)
                await repository.clear_throttle(session, account)
            else:
                await _count_failure(session, account, now)
        return user if is_right and user is not None and user.is_active else None

    async def change_password(self, principal: Principal, current: str, new: str) -> None:
        """Replace the password and end every other login of this user.

        Raises Forbidden for a wrong current password, which counts as a failed login; Invalid, Conflict and
        TooManyRequests.
        """
        user = await self.check_password(principal.username, current)
        if user is None or user.id != principal.user_id:
            raise Forbidden("wrong_password", "The current password is wrong.")
        if current == new:
            raise Invalid("same_password", "The new password must differ from the current one.")
        new_hash = await self._passwords.hash(new)
        async with self._database.write() as session:
            changed = await session.scalar(
                update(User)
                .where(User.id == user.id, User.password_hash == user.password_hash)
                .values(password_hash=new_hash)
                .returning(User.id)
            )
            if changed is None:
                raise Conflict(
                    "password_changed_meanwhile",
                    "Another request has changed the password. Log in again with the new one.",
                )
            await repository.revoke_user_sessions(
                session, user.id, "password changed", self._clock.now(), keep=principal.session_id
            )

    async def limit_address(self, address: str | None) -> None:
        """Count one login attempt of a network address. Raises TooManyRequests."""
        await self._limiter.check(policy.LOGINS_PER_ADDRESS, "logins", address_key(address))

    def _token_response(
        self, user_id: int, session_id: str, refresh_token: str, now: datetime
    ) -> TokenResponse:
        return TokenResponse(
            access_token=self._tokens.issue(AccessClaims(user_id, session_id), now),
            refresh_token=refresh_token,
            expires_in=int(self._tokens.lifetime.total_seconds()),
        )

    async def _rehash(self, user: User, password: str) -> None:
        """Replace a hash of an older algorithm while the password is available."""
        if not self._passwords.needs_rehash(user.password_hash):
            return
        new_hash = await self._passwords.hash(password)
        async with self._database.write() as session:
            await session.execute(
                update(User)
                .where(User.id == user.id, User.password_hash == user.password_hash)
                .values(password_hash=new_hash)
            )


async def purge(database: Database, now: datetime) -> None:
    """Delete old failures, and tokens and sessions that expired a day ago. Called by maintenance."""
    expired_before = now - timedelta(days=1)
    old_failures = LoginThrottle.updated_at < now - policy.FAILURE_LIFETIME
    await delete_in_batches(
        database, LoginThrottle.account, old_failures, oldest_first=LoginThrottle.updated_at
    )
    await delete_in_batches(
        database,
        RefreshToken.id,
        RefreshToken.expires_at < expired_before,
        oldest_first=RefreshToken.expires_at,
    )
    await delete_in_batches(
        database,
        LoginSession.id,
        LoginSession.expires_at < expired_before,
        oldest_first=LoginSession.expires_at,
    )


async def _rotate(session: WriteSession, token_hash: str, now: datetime) -> tuple[int, str, str] | None:
    """Return user id, session id and new token. None for an invalid token; a used one ends its session."""
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


async def _count_failure(session: WriteSession, account: str, now: datetime) -> None:
    row = await repository.locked_throttle(session, account, now)
    row.failures = policy.counted_failures(row.failures, row.updated_at, now) + 1
    row.blocked_until = now + policy.backoff(row.failures)
    row.updated_at = now


def _check_backoff(row: LoginThrottle | None, now: datetime) -> None:
    if row is not None and row.blocked_until is not None and row.blocked_until > now:
        raise _backoff_error(row.blocked_until - now)


def _backoff_error(wait: timedelta) -> TooManyRequests:
    seconds = wait.total_seconds()
    return too_many_requests(
        "login_backoff", f"Too many failed logins for this account. Try again in {seconds:.0f} s.", seconds
    )


def _invalid_credentials() -> Unauthenticated:
    return Unauthenticated(
        "invalid_credentials",
        "The username or password is wrong.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _account(key: str) -> str:
    """The hashed key of a throttle: users type passwords into the name field, and names may be long."""
    return hashlib.sha256(key.encode()).hexdigest()
