"""The roles in an organization: viewer < developer < admin."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody may do in one organization; each role may do all that the lower ones may."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    def includes(self, other: Role) -> bool:
        """Whether this role may do everything that `other` may."""
        return self.rank >= other.rank


_RANKS = {Role.VIEWER: 0, Role.DEVELOPER: 1, Role.ADMIN: 2}
