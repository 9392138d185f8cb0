"""Invite codes: one current code for each organization, consumed by one conditional UPDATE."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.errors import Conflict, NotFound
from hypervisor.events.log import record
from hypervisor.identity.principal import Principal
from hypervisor.infra.randomness import random_code
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.infra.security.tokens import hash_secret
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.roles import Role
from hypervisor.organizations import repository
from hypervisor.organizations.access import OrganizationAccess
from hypervisor.organizations.policy import check_grant
from hypervisor.organizations.schemas import InviteOptions, InviteResponse
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Invite, Membership

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
CODE_LENGTH = 27
"""31 ** 27 is about 2 ** 133: at least 128 bits, without characters of similar shape."""
PURPOSE = "invite"


async def current(session: AsyncSession, encryptor: Encryptor, access: OrganizationAccess) -> InviteResponse:
    """Return the current code of the organization. Raises NotFound if there is none."""
    invite = await repository.live_invite(session, access.organization_id)
    if invite is None:
        raise NotFound(
            "no_invite", "This organization has no invite code. Create one with POST .../regenerate-invite."
        )
    try:
        return _invite_response(invite, encryptor.decrypt(invite.code_encrypted, PURPOSE))
    except DecryptionError:
        raise NotFound(
            "no_invite",
            "The invite code was encrypted with another SECRET_KEY and cannot be shown. Create a new one "
            "with POST .../regenerate-invite.",
        ) from None


async def replace(
    session: WriteSession,
    encryptor: Encryptor,
    access: OrganizationAccess,
    options: InviteOptions,
    now: datetime,
) -> InviteResponse:
    """Create a new code. The old one stops working. Raises Forbidden for a role above the inviter's."""
    check_grant(access.role, options.role)
    # Without the lock two concurrent replacements would leave two codes.
    await repository.lock(session, access.organization_id)
    await repository.revoke_invites(session, access.organization_id, now)
    code = new_code()
    invite = Invite(
        organization_id=access.organization_id,
        code_hash=hash_secret(code),
        code_encrypted=encryptor.encrypt(code, PURPOSE),
        role=options.role,
        created_by=access.principal.user_id,
        created_at=now,
        expires_at=_expiry(options, now),
        max_uses=options.max_uses,
        uses=0,
        revoked_at=None,
    )
    session.add(invite)
    record(
        session,
        organization_id=access.organization_id,
        at=now,
        actor=access.principal.actor,
        type="invite.created",
        message=f"{access.principal.username} created an invite code for the role {options.role}.",
    )
    return _invite_response(invite, code)


async def join(
    session: WriteSession,
    principal: Principal,
    code: str,
    now: datetime,
    *,
    organization_id: int | None = None,
) -> OrganizationAccess:
    """Join the organization of a code. With `organization_id` the code must belong to that organization.

    Raises NotFound with one message for every invalid code; Conflict for members, without using the code.
    """
    code_hash = hash_secret(code.strip())
    target_id = await repository.organization_of_invite(session, code_hash)
    if target_id is None or organization_id not in (None, target_id):
        raise _invalid_invite()
    # Lock the organization before the invite: the same order as in `replace`.
    organization = await repository.lock(session, target_id)
    reached("invite_after_check_before_consume")
    role = await repository.consume_invite(session, code_hash, now)
    if organization is None or organization.deleting_at is not None or role is None:
        raise _invalid_invite()
    membership = Membership(
        organization_id=organization.id, user_id=principal.user_id, role=role, joined_at=now
    )
    if not await repository.add_member(session, membership):
        # This rolls back the transaction with the counted use.
        raise Conflict("already_member", f"You are already a member of {organization.name!r}.")
    record(
        session,
        organization_id=organization.id,
        at=now,
        actor=principal.actor,
        type="member.joined",
        message=f"{principal.username} joined as {role}.",
        data={"user_id": principal.user_id, "role": role},
    )
    return OrganizationAccess(organization.id, organization.name, role, principal)


def new_code() -> str:
    """A random invite code."""
    return random_code(ALPHABET, CODE_LENGTH)


def _expiry(options: InviteOptions, now: datetime) -> datetime | None:
    return now + timedelta(hours=options.expires_in_hours) if options.expires_in_hours is not None else None


def _invalid_invite() -> NotFound:
    return NotFound(
        "invalid_invite",
        "This invite code is not valid: mistyped, expired, used up or replaced. Ask an admin for a new one.",
    )


def _invite_response(invite: Invite, code: str) -> InviteResponse:
    return InviteResponse(
        invite_code=code,
        role=Role(invite.role),
        created_at=invite.created_at,
        expires_at=invite.expires_at,
        max_uses=invite.max_uses,
        uses=invite.uses,
    )
