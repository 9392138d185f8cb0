"""The roles in an organization: viewer < developer < admin."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """A user's role in one organization. Each role includes the rights of the lower ones."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    def includes(self, other: Role) -> bool:
        """Whether this role has all rights of `other`."""
        return self.rank >= other.rank


_RANKS = {Role.VIEWER: 0, Role.DEVELOPER: 1, Role.ADMIN: 2}
