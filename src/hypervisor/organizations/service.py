"""Commands on organizations and members. Each function runs in the caller's transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete as delete_rows
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from hypervisor.errors import Conflict, NotFound
from hypervisor.events.log import record
from hypervisor.identity.principal import Principal
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.kernel.roles import Role
from hypervisor.kernel.text import fold
from hypervisor.organizations import invites, repository
from hypervisor.organizations.access import OrganizationAccess, not_found
from hypervisor.organizations.policy import check_grant
from hypervisor.organizations.repository import MemberRow
from hypervisor.organizations.schemas import InviteOptions
from hypervisor.store.database import WriteSession
from hypervisor.store.removals import enqueue_instance_gc, exceed_one_request
from hypervisor.store.tables import Attempt, Deployment, Event, Membership, Organization


async def create(
    session: WriteSession, encryptor: Encryptor, principal: Principal, name: str, now: datetime
) -> Organization:
    """Create an organization with the caller as its admin and a first invite code.

    Raises Conflict for a taken name.
    """
    organization = Organization(
        name=name, name_normalized=fold(name), created_by=principal.user_id, created_at=now, deleting_at=None
    )
    await _save_name(session, organization)
    session.add(
        Membership(organization_id=organization.id, user_id=principal.user_id, role=Role.ADMIN, joined_at=now)
    )
    record(
        session,
        organization_id=organization.id,
        at=now,
        actor=principal.actor,
        type="organization.created",
        message=f"{principal.username} created the organization {name!r}.",
    )
    access = OrganizationAccess(organization.id, name, Role.ADMIN, principal)
    await invites.replace(session, encryptor, access, InviteOptions(), now)
    return organization


async def rename(
    session: WriteSession, access: OrganizationAccess, name: str | None, now: datetime
) -> Organization:
    """Change the name. None keeps it. Raises Conflict for a taken name."""
    organization = await _locked(session, access)
    if name is None or name == organization.name:
        return organization
    old_name, organization.name, organization.name_normalized = organization.name, name, fold(name)
    await _save_name(session, organization)
    record(
        session,
        organization_id=organization.id,
        at=now,
        actor=access.principal.actor,
        type="organization.renamed",
        message=f"{access.principal.username} renamed the organization from {old_name!r} to {name!r}.",
    )
    return organization


async def delete(session: WriteSession, access: OrganizationAccess, now: datetime, *, force: bool) -> bool:
    """Delete the organization. True if that is done: nothing runs, and the history is short.

    Otherwise `deleting_at` is set, and maintenance stops its deployments and deletes all rows. Raises
    Conflict while deployments run, unless `force`.
    """
    organization = await _locked(session, access)
    running = await repository.count_running(session, organization.id)
    if running == 0 and not await _has_long_history(session, organization.id):
        own = select(Deployment.id).where(Deployment.organization_id == organization.id)
        await enqueue_instance_gc(session, Attempt.deployment_id.in_(own), now)
        await session.execute(delete_rows(Organization).where(Organization.id == organization.id))
        return True
    if running and not force:
        raise Conflict(
            "organization_busy",
            f"{running} deployment(s) are running. Stop them, or delete with ?force=true.",
            extra={"running": running},
        )
    if organization.deleting_at is None:
        organization.deleting_at = now
        record(
            session,
            organization_id=organization.id,
            at=now,
            actor=access.principal.actor,
            type="organization.deleting",
            message=f"{access.principal.username} is deleting it; {running} deployment(s) must end first.",
        )
    return False


async def change_role(
    session: WriteSession, access: OrganizationAccess, user_id: int, role: Role, now: datetime
) -> MemberRow:
    """Change the role of a member. Raises NotFound, Forbidden; Conflict for the last admin."""
    check_grant(access.role, role)
    await _locked(session, access)
    member = await _member(session, access, user_id)
    if member.role == role:
        return member
    if member.role == Role.ADMIN:
        await _check_other_admin(session, access.organization_id)
    await session.execute(
        update(Membership)
        .where(Membership.organization_id == access.organization_id, Membership.user_id == user_id)
        .values(role=role)
    )
    record(
        session,
        organization_id=access.organization_id,
        at=now,
        actor=access.principal.actor,
        type="member.role_changed",
        message=f"{access.principal.username} changed {member.username} from {member.role} to {role}.",
        data={"user_id": user_id, "from": member.role, "to": role},
    )
    return await _member(session, access, user_id)


async def remove_member(
    session: WriteSession, access: OrganizationAccess, user_id: int, now: datetime
) -> None:
    """Remove a member. The caller has checked that they leave or that an admin removes them.

    Raises NotFound; Conflict for the last admin.
    """
    await _locked(session, access)
    member = await _member(session, access, user_id)
    if member.role == Role.ADMIN:
        await _check_other_admin(session, access.organization_id)
    await session.execute(
        delete_rows(Membership).where(
            Membership.organization_id == access.organization_id, Membership.user_id == user_id
        )
    )
    remover = access.principal
    leaves = user_id == remover.user_id
    record(
        session,
        organization_id=access.organization_id,
        at=now,
        actor=access.principal.actor,
        type="member.left" if leaves else "member.removed",
        message=f"{member.username} left."
        if leaves
        else f"{access.principal.username} removed {member.username}.",
        data={"user_id": user_id},
    )


async def _locked(session: WriteSession, access: OrganizationAccess) -> Organization:
    organization = await repository.lock(session, access.organization_id)
    if organization is None:
        raise not_found("organization", access.organization_id)
    return organization


async def _has_long_history(session: WriteSession, organization_id: int) -> bool:
    deployments = Deployment.organization_id == organization_id
    events = Event.organization_id == organization_id
    return await exceed_one_request(session, Deployment.id, deployments) or await exceed_one_request(
        session, Event.id, events
    )


async def _member(session: WriteSession, access: OrganizationAccess, user_id: int) -> MemberRow:
    member = await repository.member(session, access.organization_id, user_id)
    if member is None:
        raise NotFound("member_not_found", f"User {user_id} is not a member of this organization.")
    return member


async def _check_other_admin(session: WriteSession, organization_id: int) -> None:
    """Raises Conflict for the last admin. The organization is locked, so two admins cannot leave at once."""
    if await repository.count_admins(session, organization_id) <= 1:
        raise Conflict(
            "last_admin",
            "This is the last admin. Give another member the role admin first, or delete the organization.",
        )


async def _save_name(session: WriteSession, organization: Organization) -> None:
    taken = Conflict(
        "organization_name_taken",
        f"The name {organization.name!r} is taken by another organization. Choose another one.",
    )
    with session.no_autoflush:
        if await repository.name_taken(session, organization.name_normalized, besides=organization.id):
            raise taken
    session.add(organization)
    try:
        await session.flush()
    except IntegrityError:
        raise taken from None
