"""Who may grant which role. Every path that gives somebody a role goes through `check_grant`."""

from __future__ import annotations

from hypervisor.errors import Forbidden
from hypervisor.kernel.roles import Role


def check_grant(granter: Role, wanted: Role) -> None:
    """Raises Forbidden when the wanted role is above the granter's own."""
    if not granter.includes(wanted):
        raise Forbidden("role_above_own", f"You cannot grant {wanted}: your own role is {granter}.")


def check_removal(remover: Role, *, is_self: bool) -> None:
    """Everybody may leave; only admins remove others. Raises Forbidden."""
    if not is_self and remover is not Role.ADMIN:
        raise Forbidden("role_too_low", f"Removing somebody needs the role admin; yours is {remover}.")
