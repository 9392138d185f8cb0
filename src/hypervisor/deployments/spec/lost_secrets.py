"""The secret values of deployments after a change of SECRET_KEY: those of another key are marked as lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Text, cast, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.spec.environment import LOST, lost_secrets, rekeyed
from hypervisor.events.log import SYSTEM, record
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment

_BATCH = 1000
_STORED = cast(Deployment.env, Text)


@dataclass(frozen=True)
class Rekeyed:
    """A deployment whose stored environment changes with the key."""

    id: int
    organization_id: int
    cluster_id: int
    name: str
    env: dict[str, Any]

    @property
    def lost(self) -> list[str]:
        """The names of its secret values that must be set again."""
        return lost_secrets(self.env)


async def find_rekeyed(session: AsyncSession, encryptor: Encryptor) -> list[Rekeyed]:
    """The deployments with a secret value that this key loses or gives back."""
    found = []
    async for row in _with_secrets(session):
        env = rekeyed(row.env, encryptor)
        if env != row.env:
            found.append(Rekeyed(row.id, row.organization_id, row.cluster_id, row.name, env))
    return found


async def store_rekeyed(session: WriteSession, found: list[Rekeyed], now: datetime) -> None:
    """Store the changed environments, with an event for each deployment that lost a value."""
    for one in found:
        await session.execute(update(Deployment).where(Deployment.id == one.id).values(env=one.env))
        if one.lost:
            record(
                session,
                organization_id=one.organization_id,
                cluster_id=one.cluster_id,
                deployment_id=one.id,
                at=now,
                actor=SYSTEM,
                type="deployment.secrets_lost",
                code="secret_key_replaced",
                message=f"The SECRET_KEY of the server was replaced: set the secret values of "
                f"{', '.join(one.lost)} again.",
                data={"names": one.lost},
            )


async def _with_secrets(session: AsyncSession) -> AsyncIterator[Row[Any]]:
    """The deployments with secret values, in batches by id; some without one may be among them."""
    last = 0
    columns = (
        Deployment.id,
        Deployment.organization_id,
        Deployment.cluster_id,
        Deployment.name,
        Deployment.env,
    )
    marked = or_(_STORED.contains('"encrypted"'), _STORED.contains(f'"{LOST}"'))
    while True:
        page = select(*columns).where(Deployment.id > last, marked).order_by(Deployment.id).limit(_BATCH)
        rows = (await session.execute(page)).all()
        for row in rows:
            yield row
        if len(rows) < _BATCH:
            return
        last = rows[-1].id
