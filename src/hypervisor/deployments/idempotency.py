"""`Idempotency-Key`: the same request sent twice makes its deployments once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite

from hypervisor.errors import Conflict
from hypervisor.infra.security.sealing import Sealer
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import IdempotencyKey


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A key of a user with the fingerprint of what was asked under it."""

    user_id: int
    key: str
    fingerprint: str


def keyed_request(user_id: int, key: str, kind: str, body: BaseModel, sealer: Sealer) -> KeyedRequest:
    """The request as it is recognised again. `kind` keeps single and batch requests apart.

    The fingerprint is keyed, so that secret values of an environment cannot be guessed from it.
    """
    text = json.dumps([kind, body.model_dump(mode="json", exclude_unset=True)], sort_keys=True)
    return KeyedRequest(user_id, key, sealer.fingerprint(text, "idempotency"))


async def claim(session: WriteSession, request: KeyedRequest, now: datetime) -> list[int] | None:
    """Take the key for this transaction: None. If it was used before: the deployments that it made.

    Of two transactions with the same key one waits for the other. Raises Conflict when the key was used for
    something else.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    made = await session.execute(
        insert(IdempotencyKey)
        .values(
            user_id=request.user_id,
            key=request.key,
            request_hash=request.fingerprint,
            deployment_ids=[],
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if made.first() is not None:
        return None
    row = await session.get_one(IdempotencyKey, (request.user_id, request.key))
    if row.request_hash != request.fingerprint:
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; use a new key for each new request.",
        )
    return row.deployment_ids


async def remember(session: WriteSession, request: KeyedRequest, deployment_ids: list[int]) -> None:
    """Write what was made under the key."""
    await session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.user_id == request.user_id, IdempotencyKey.key == request.key)
        .values(deployment_ids=deployment_ids)
    )
