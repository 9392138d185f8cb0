"""Organizations: members, invite codes, events."""

from __future__ import annotations

from collections.abc import Iterator

from hypervisor.client.models import Event, InviteCode, Member, Organization, Page
from hypervisor.client.streams import follow_events
from hypervisor.client.transport import Transport


class Organizations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str) -> Organization:
        """Create an organization with the caller as its admin."""
        created: Organization = self._transport.post("/organizations", {"name": name})
        return created

    def all(self) -> list[Organization]:
        """The organizations of the caller."""
        return list(self._transport.pages("/organizations"))

    def get(self, organization_id: int) -> Organization:
        found: Organization = self._transport.get(f"/organizations/{organization_id}")
        return found

    def rename(self, organization_id: int, name: str) -> Organization:
        changed: Organization = self._transport.patch(f"/organizations/{organization_id}", {"name": name})
        return changed

    def delete(self, organization_id: int, *, force: bool = False) -> bool:
        """True when it is deleted, False when deployments are being stopped first (with `force`)."""
        return self._transport.delete(f"/organizations/{organization_id}", {"force": force})

    def invite_code(self, organization_id: int) -> InviteCode:
        code: InviteCode = self._transport.get(f"/organizations/{organization_id}/invite-code")
        return code

    def regenerate_invite(
        self,
        organization_id: int,
        *,
        role: str | None = None,
        max_uses: int | None = None,
        expires_in_hours: float | None = None,
    ) -> InviteCode:
        """Create a new code. The old code becomes invalid."""
        limits = {"role": role, "max_uses": max_uses, "expires_in_hours": expires_in_hours}
        body = {name: value for name, value in limits.items() if value is not None}
        path = f"/organizations/{organization_id}/regenerate-invite"
        code: InviteCode = self._transport.post(path, body or None)
        return code

    def join(self, invite_code: str) -> Organization:
        joined: Organization = self._transport.post("/organizations/join", {"invite_code": invite_code})
        return joined

    def members(self, organization_id: int) -> list[Member]:
        return list(self._transport.pages(f"/organizations/{organization_id}/members"))

    def set_role(self, organization_id: int, user_id: int, role: str) -> Member:
        path = f"/organizations/{organization_id}/members/{user_id}"
        member: Member = self._transport.patch(path, {"role": role})
        return member

    def remove_member(self, organization_id: int, user_id: int) -> None:
        self._transport.delete(f"/organizations/{organization_id}/members/{user_id}")

    def events(self, organization_id: int, *, after: int = 0, limit: int = 100) -> Page[Event]:
        """One page of events after the event with id `after`, oldest first."""
        path = f"/organizations/{organization_id}/events"
        page: Page[Event] = self._transport.page(path, {"after": after, "limit": limit})
        return page

    def follow(self, organization_id: int, *, after: int | None = None) -> Iterator[Event]:
        """New events, without end, after the event with id `after`; for None, from now on."""
        return follow_events(self._transport, f"/organizations/{organization_id}/events/stream", after)
