"""Rules for granting roles and removing members. Every grant of a role calls `check_grant`."""

from __future__ import annotations

from hypervisor.errors import Forbidden
from hypervisor.kernel.roles import Role


def check_grant(granter: Role, role: Role) -> None:
    """Raises Forbidden if the role is above the granter's."""
    if not granter.includes(role):
        raise Forbidden("role_above_own", f"You cannot grant the role {role}: your own role is {granter}.")


def check_removal(remover: Role, *, is_self: bool) -> None:
    """Raises Forbidden unless a member leaves, or an admin removes a member."""
    if not is_self and remover is not Role.ADMIN:
        raise Forbidden("role_too_low", f"Only an admin can remove another member. Your role is {remover}.")
