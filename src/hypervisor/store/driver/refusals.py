"""The refusal of a DATABASE_URL, in one line and without its password."""

from __future__ import annotations

from hypervisor.errors import StartupError

EXAMPLES = "use sqlite:///path/to.db or postgresql://user@host/db"


def refused(reason: str) -> StartupError:
    """The error for a DATABASE_URL that cannot be used."""
    return StartupError(f"DATABASE_URL {reason}")
