"""Queries for organizations, memberships and invites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.kernel.roles import Role
from hypervisor.store.database import WriteSession
from hypervisor.store.inserts import insert_missing
from hypervisor.store.tables import Attempt, Deployment, Invite, Membership, Organization, User

ACTIVE_STATES = ("STARTING", "RUNNING", "STOPPING")


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of an organization with their account."""

    user_id: int
    username: str
    email: str
    role: str
    joined_at: datetime


async def lock(session: WriteSession, organization_id: int) -> Organization | None:
    """The row, locked until the end of the transaction. This serialises changes of the members."""
    return await session.get(Organization, organization_id, with_for_update=True, populate_existing=True)


async def name_taken(session: AsyncSession, name_normalized: str, *, besides: int | None = None) -> bool:
    """Whether another organization than `besides` has this name."""
    query = select(Organization.id).where(
        Organization.name_normalized == name_normalized, Organization.id != (besides or 0)
    )
    return await session.scalar(query) is not None


async def page(
    session: AsyncSession, *, member: int | None, after: int, limit: int
) -> Sequence[tuple[Organization, str | None]]:
    """Organizations by id, with the role of the user `member`. None: all organizations."""
    own = (Membership.organization_id == Organization.id) & (Membership.user_id == (member or 0))
    query = (
        select(Organization, Membership.role)
        .join(Membership, own, isouter=member is None)
        .where(Organization.id > after)
        .order_by(Organization.id)
        .limit(limit)
    )
    return [(organization, role) for organization, role in await session.execute(query)]


async def count_running(session: AsyncSession, organization_id: int) -> int:
    """The number of deployments that start, run or stop, or that have a live attempt."""
    active = select(Deployment.id).where(
        Deployment.organization_id == organization_id, Deployment.state.in_(ACTIVE_STATES)
    )
    live = select(Attempt.deployment_id).where(
        Attempt.organization_id == organization_id, Attempt.finished_at.is_(None)
    )
    # One condition with OR would scan the whole history.
    return await session.scalar(select(func.count()).select_from(union(active, live).subquery())) or 0


async def members(
    session: AsyncSession, organization_id: int, *, after: int, limit: int
) -> Sequence[MemberRow]:
    """Members after a user id, by user id."""
    query = _member_query(organization_id).where(User.id > after).order_by(User.id).limit(limit)
    return [MemberRow(*row) for row in await session.execute(query)]


async def member(session: AsyncSession, organization_id: int, user_id: int) -> MemberRow | None:
    """One member. None for a non-member."""
    row = (await session.execute(_member_query(organization_id).where(User.id == user_id))).first()
    return MemberRow(*row) if row else None


async def count_admins(session: AsyncSession, organization_id: int) -> int:
    """The number of admins."""
    query = select(func.count()).where(
        Membership.organization_id == organization_id, Membership.role == "admin"
    )
    return await session.scalar(query) or 0


async def add_member(session: WriteSession, row: Membership) -> bool:
    """Insert a membership. False if it exists."""
    values = {
        "organization_id": row.organization_id,
        "user_id": row.user_id,
        "role": row.role,
        "joined_at": row.joined_at,
    }
    inserted = await session.execute(
        insert_missing(session, Membership).values(values).returning(Membership.user_id)
    )
    return inserted.first() is not None


async def live_invite(session: AsyncSession, organization_id: int) -> Invite | None:
    """The current code of the organization, even if it is expired or used up."""
    return await session.scalar(
        select(Invite)
        .where(Invite.organization_id == organization_id, Invite.revoked_at.is_(None))
        .order_by(Invite.id.desc())
        .limit(1)
    )


async def revoke_invites(session: WriteSession, organization_id: int, now: datetime) -> None:
    """Revoke the current code of the organization."""
    await session.execute(
        update(Invite)
        .where(Invite.organization_id == organization_id, Invite.revoked_at.is_(None))
        .values(revoked_at=now)
    )


async def organization_of_invite(session: AsyncSession, code_hash: str) -> int | None:
    """The organization of a code, which may be revoked, expired or used up. None for an unknown code."""
    return await session.scalar(select(Invite.organization_id).where(Invite.code_hash == code_hash))


async def consume_invite(session: WriteSession, code_hash: str, now: datetime) -> Role | None:
    """Count one use in one conditional UPDATE. Return the role of the code; None for an invalid code."""
    role = await session.scalar(
        update(Invite)
        .where(
            Invite.code_hash == code_hash,
            Invite.revoked_at.is_(None),
            or_(Invite.expires_at.is_(None), Invite.expires_at > now),
            or_(Invite.max_uses.is_(None), Invite.uses < Invite.max_uses),
        )
        .values(uses=Invite.uses + 1)
        .returning(Invite.role)
    )
    return Role(role) if role is not None else None


def _member_query(organization_id: int) -> Select[int, str, str, str, datetime]:
    return (
        select(User.id, User.username, User.email, Membership.role, Membership.joined_at)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.organization_id == organization_id)
    )
