"""The id of this installation: created once, and part of every instance name."""

from __future__ import annotations

import secrets
from datetime import datetime

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Installation

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


async def ensure_installation(session: WriteSession, now: datetime) -> str:
    """The installation's id; created on first use."""
    row = await session.get(Installation, 1)
    if row is None:
        row = Installation(id=1, install_id=_random_id(), created_at=now)
        session.add(row)
    return row.install_id


def _random_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
