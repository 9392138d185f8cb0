"""Grants of roles, access checks, and the default organization."""

from __future__ import annotations

import pytest

from hypervisor.errors import Forbidden, Invalid, NotFound
from hypervisor.identity.principal import OrganizationRole, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import check_role, not_found, only_organization
from hypervisor.organizations.policy import check_grant, check_removal


def _principal(*memberships: OrganizationRole, superuser: bool = False) -> Principal:
    return Principal(1, "ada", superuser, "s", {one.organization_id: one for one in memberships})


@pytest.mark.parametrize("granter", list(Role))
@pytest.mark.parametrize("requested", list(Role))
def test_a_grant_is_limited_to_the_granters_own_role(granter: Role, requested: Role) -> None:
    if granter.includes(requested):
        check_grant(granter, requested)
    else:
        with pytest.raises(Forbidden):
            check_grant(granter, requested)


def test_every_member_can_leave_and_only_admins_remove() -> None:
    for role in Role:
        check_removal(role, is_self=True)
    check_removal(Role.ADMIN, is_self=False)
    for role in (Role.VIEWER, Role.DEVELOPER):
        with pytest.raises(Forbidden):
            check_removal(role, is_self=False)


def test_non_members_get_the_hidden_error_and_members_see_their_role() -> None:
    viewer = _principal(OrganizationRole(7, "Vision", Role.VIEWER))
    with pytest.raises(NotFound):
        check_role(viewer, 8, Role.VIEWER, hidden=not_found("deployment", 3))
    with pytest.raises(Forbidden, match=r"developer.*viewer"):
        check_role(viewer, 7, Role.DEVELOPER, hidden=not_found("deployment", 3))
    root = _principal(superuser=True)
    assert check_role(root, 8, Role.ADMIN, hidden=not_found("deployment", 3)) is Role.ADMIN


def test_the_only_organization_is_meant() -> None:
    assert only_organization(_principal(OrganizationRole(7, "Vision", Role.VIEWER))) == 7


def test_without_an_organization_the_error_explains_how_to_get_one() -> None:
    with pytest.raises(Invalid, match=r"Create .* or join") as refused:
        only_organization(_principal())
    assert refused.value.code == "no_organization"


def test_of_several_organizations_the_choices_are_named() -> None:
    ada = _principal(OrganizationRole(9, "Speech", Role.ADMIN), OrganizationRole(7, "Vision", Role.VIEWER))
    with pytest.raises(Invalid) as refused:
        only_organization(ada)
    assert "7 (Vision), 9 (Speech)" in refused.value.detail
    assert refused.value.extra["organizations"] == [
        {"id": 7, "name": "Vision"},
        {"id": 9, "name": "Speech"},
    ]
