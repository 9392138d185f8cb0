"""`Idempotency-Key`: a request that is sent twice creates its deployments once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from pydantic import BaseModel
from sqlalchemy import ARRAY, Integer, String, Table, bindparam, func, select, true, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from hypervisor.errors import Conflict
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.store.database import ConcurrentWrite, WriteSession
from hypervisor.store.tables import IdempotencyKey

_ROW = (
    IdempotencyKey.user_id,
    IdempotencyKey.key,
    IdempotencyKey.request_hash,
    IdempotencyKey.deployment_ids,
)
_AMONG = select(*_ROW).where(
    tuple_(IdempotencyKey.user_id, IdempotencyKey.key).in_(bindparam("pairs", expanding=True))
)
_ASKED = (
    func.unnest(bindparam("users", type_=ARRAY(Integer)), bindparam("keys", type_=ARRAY(String)))
    .table_valued("user_id", "key", name="asked")
    .render_derived()
)
_FOUND = (
    select(*_ROW)
    .where(IdempotencyKey.user_id == _ASKED.c.user_id, IdempotencyKey.key == _ASKED.c.key)
    .limit(1)
    .lateral("found")
)
_ONE_BY_ONE = select(_FOUND).select_from(_ASKED.join(_FOUND, true()))
"""`_AMONG` for PostgreSQL, which would read all keys of a user while a young table has no statistics. With
LATERAL and LIMIT it has to use the index for each key."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A key of a user with the fingerprint of the request."""

    user_id: int
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """The fingerprint of the request under a key, and the deployments that it created."""

    fingerprint: str
    deployment_ids: list[int]


def keyed_request(user_id: int, key: str, kind: str, body: BaseModel, encryptor: Encryptor) -> KeyedRequest:
    """The identity of a request. `kind` separates single from batch requests.

    The fingerprint is keyed, so that secret values of an environment cannot be guessed from it.
    """
    text = json.dumps([kind, body.model_dump(mode="json", exclude_unset=True)], sort_keys=True)
    return KeyedRequest(user_id, key, encryptor.fingerprint(text, "idempotency"))


async def find(session: WriteSession, requests: Sequence[KeyedRequest]) -> dict[tuple[int, str], KeyRow]:
    """Earlier uses of the keys of these requests, by user and key."""
    if not requests:
        return {}
    pairs = [(one.user_id, one.key) for one in requests]
    if session.get_bind().dialect.name == "sqlite":
        rows = await session.execute(_AMONG, {"pairs": pairs})
    else:
        users, keys = zip(*pairs, strict=True)
        rows = await session.execute(_ONE_BY_ONE, {"users": users, "keys": keys})
    return {(row.user_id, row.key): KeyRow(row.request_hash, row.deployment_ids) for row in rows}


def earlier_result(found: Mapping[tuple[int, str], KeyRow], request: KeyedRequest) -> list[int] | None:
    """The deployments that an earlier, equal request created; None for a first request.

    Raises Conflict when the key was used for another request.
    """
    row = found.get((request.user_id, request.key))
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; use a new key for each new request.",
        )
    return row.deployment_ids


async def remember(
    session: WriteSession, created: Sequence[tuple[KeyedRequest, list[int], datetime]]
) -> None:
    """Store the deployments that were created under each key, with the time.

    Of two transactions with the same key, one waits for the other. Raises ConcurrentWrite when the other one
    has committed.
    """
    if not created:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    table = cast(Table, IdempotencyKey.__table__)
    written = await session.execute(
        insert(table).on_conflict_do_nothing().returning(table.c.key),
        [
            {
                "user_id": request.user_id,
                "key": request.key,
                "request_hash": request.fingerprint,
                "deployment_ids": ids,
                "created_at": now,
            }
            for request, ids, now in created
        ],
    )
    if len(written.all()) < len(created):
        raise ConcurrentWrite
