"""Accounts: registration, superusers, password changes. Logins and sessions are in `sessions`."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from hypervisor.api.services import AppServices
from hypervisor.errors import Conflict, Forbidden, Invalid
from hypervisor.identity import repository, sessions
from hypervisor.identity.principal import Principal
from hypervisor.identity.schemas import RegisterRequest
from hypervisor.infra.security.passwords import Passwords
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.text import fold
from hypervisor.store.database import Database
from hypervisor.store.tables import User


async def register(services: AppServices, request: RegisterRequest) -> User:
    """Create an account without rights; `role` is only stored.

    Raises Conflict for a taken username or e-mail address.
    """
    user = User(
        username=request.username,
        username_normalized=fold(request.username),
        email=request.email,
        email_normalized=fold(request.email),
        password_hash=await services.passwords.hash(request.password),
        requested_role=request.role,
        is_superuser=False,
        is_active=True,
        created_at=services.clock.now(),
    )
    return await _insert(services.database, user)


async def create_superuser(
    database: Database, clock: Clock, username: str, email: str, password: str
) -> User:
    """Create a superuser, for the command line.

    Raises pydantic.ValidationError for an invalid username, e-mail address or password, Conflict for a taken
    username or address.
    """
    request = RegisterRequest(username=username, email=email, password=password)
    user = User(
        username=request.username,
        username_normalized=fold(request.username),
        email=request.email,
        email_normalized=fold(request.email),
        password_hash=await Passwords().hash(request.password),
        is_superuser=True,
        is_active=True,
        created_at=clock.now(),
    )
    return await _insert(database, user)


async def change_password(services: AppServices, principal: Principal, current: str, new: str) -> None:
    """Replace the password and end every other login of this user.

    Raises Forbidden for a wrong current password, which counts as a failed login; Invalid, Conflict and
    TooManyRequests.
    """
    user = await sessions.check_password(services, principal.username, current)
    if user is None or user.id != principal.user_id:
        raise Forbidden("wrong_password", "The current password is wrong.")
    if current == new:
        raise Invalid("same_password", "The new password must differ from the current one.")
    new_hash = await services.passwords.hash(new)
    async with services.database.write() as session:
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
            session, user.id, "password changed", services.clock.now(), keep=principal.session_id
        )


async def _insert(database: Database, user: User) -> User:
    try:
        async with database.write() as session:
            _refuse_taken(
                await repository.taken_fields(session, user.username_normalized, user.email_normalized)
            )
            session.add(user)
    except IntegrityError:
        # Another request took it between the check and the insert.
        async with database.read() as session:
            _refuse_taken(
                await repository.taken_fields(session, user.username_normalized, user.email_normalized)
            )
        raise
    return user


def _refuse_taken(taken: set[str]) -> None:
    if "username" in taken:
        raise Conflict("username_taken", "This username is taken. Choose another one.")
    if "email" in taken:
        raise Conflict("email_taken", "An account with this e-mail address exists. Log in instead.")
