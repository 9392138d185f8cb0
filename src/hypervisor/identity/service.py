"""Accounts: registration and superusers. Logins, sessions and passwords are in `sessions`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import IntegrityError

from hypervisor.errors import Conflict
from hypervisor.identity import repository
from hypervisor.identity.schemas import RegisterRequest
from hypervisor.infra.security.passwords import Passwords
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.text import fold
from hypervisor.store.database import Database
from hypervisor.store.tables import User


async def register(database: Database, passwords: Passwords, request: RegisterRequest, now: datetime) -> User:
    """Create an account without rights; `role` is only stored.

    Raises Conflict for a taken username or e-mail address.
    """
    user = User(
        username=request.username,
        username_normalized=fold(request.username),
        email=request.email,
        email_normalized=fold(request.email),
        password_hash=await passwords.hash(request.password),
        requested_role=request.role,
        is_superuser=False,
        is_active=True,
        created_at=now,
    )
    return await _insert(database, user)


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
