"""The id of this installation: created once, and part of every instance name."""

from __future__ import annotations

from datetime import datetime

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Installation

ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
ID_LENGTH = 8


async def ensure_installation(session: WriteSession, new_id: str, now: datetime) -> str:
    """The installation's id; created on first use as `new_id`: `ID_LENGTH` characters of `ID_ALPHABET`."""
    row = await session.get(Installation, 1)
    if row is None:
        row = Installation(id=1, install_id=new_id, created_at=now)
        session.add(row)
    return row.install_id
