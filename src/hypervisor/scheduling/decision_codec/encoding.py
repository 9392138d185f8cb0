"""A decision's input as bytes and back, exactly: a JSON header, then the columns, compressed by zlib.

The encoding is canonical: equal snapshots (same rows in the same order) and policies give equal bytes before
compression, and these bytes are hashed. It follows the fields of the dataclasses, so a new column needs no
change here. `FORMAT` rises when the layout itself changes. Only the version that wrote a snapshot reads it:
an unknown field is refused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from hashlib import sha256
from operator import attrgetter
from typing import Any

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.decision_codec.lazy_unplaced import LazyUnplaced
from hypervisor.scheduling.plan_result import Plan, Reason
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots import snapshot as tables
from hypervisor.scheduling.snapshots.snapshot import Int64, Snapshot

FORMAT = 1
_MAGIC = b"HVS%d\n" % FORMAT
_LENGTH = 8
_LEVEL = 1
"""The fastest level of zlib. Columns of ids and repeated amounts still shrink well."""
_REASONS_UP_TO = 10_000
_KNOWN: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (*vars(tables).values(), Policy, Resources)
    if isinstance(kind, type) and is_dataclass(kind)
}


class UnreadableSnapshot(ValueError):
    """The bytes are not a snapshot, or are a snapshot of another version."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`blob` is what `decode` takes; `digest` is the SHA-256 of the uncompressed form, in hex."""

    blob: bytes
    digest: str


def encode(snapshot: Snapshot, policy: Policy) -> Encoded:
    """Encode a snapshot with its policy. The time is linear in its size."""
    columns: list[np.ndarray[Any, Any]] = []
    packed = _pack([snapshot, policy], columns)
    shapes = [[column.dtype.str, len(column)] for column in columns]
    header = json.dumps({"columns": shapes, "value": packed}, separators=(",", ":")).encode()
    parts = [len(header).to_bytes(_LENGTH, "little"), header, *(column.tobytes() for column in columns)]
    raw = b"".join(parts)
    return Encoded(_MAGIC + zlib.compress(raw, _LEVEL), sha256(raw).hexdigest())


def decode(blob: bytes) -> tuple[Snapshot, Policy]:
    """The arguments of `encode`. Raises UnreadableSnapshot."""
    raw = _decompressed(blob)
    start = _LENGTH + int.from_bytes(raw[:_LENGTH], "little")
    try:
        header = json.loads(raw[_LENGTH:start])
        columns = []
        for dtype, length in header["columns"]:
            column = np.frombuffer(raw, np.dtype(dtype), length, start)
            columns.append(column)
            start += column.nbytes
        snapshot, policy = _unpack(header["value"], columns)
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableSnapshot(f"written by another version ({error})") from None
    return snapshot, policy


def digest_of(blob: bytes) -> str:
    """The digest that `encode` returned with these bytes. Raises UnreadableSnapshot."""
    return sha256(_decompressed(blob)).hexdigest()


def plan_digest(plan: Plan) -> str:
    """SHA-256 of the content of a plan, in hex.

    It covers all actions and the waiting deployments. It covers the reasons too, unless more than 10,000
    deployments wait: the sentences would cost more than the decision.
    """
    waiting = plan.unplaced
    reasons: list[Reason] = []
    if isinstance(waiting, LazyUnplaced) and len(waiting) > _REASONS_UP_TO:
        ids, numbers = waiting.deployment_ids, np.zeros(0, np.int64)
    else:
        listed = list(waiting)
        ids = np.array([one.deployment_id for one in listed], np.int64)
        numbers, reasons = _numbered([one.reason for one in listed])
    actions = [_rows(plan.placements), _rows(plan.evictions), _rows(plan.nominations)]
    words = _pack([dict(plan.reprieved), reasons], [])
    state = sha256(json.dumps([actions, words], separators=(",", ":")).encode())
    state.update(ids.tobytes())
    state.update(numbers.tobytes())
    return state.hexdigest()


def _rows(items: Sequence[Any]) -> list[Any]:
    """The fields of the items, without a Python call per item: a plan may hold 100,000 of them."""
    return list(map(attrgetter(*(field.name for field in fields(items[0]))), items)) if items else []


def _numbered(reasons: Sequence[Reason]) -> tuple[Int64, list[Reason]]:
    """A number for each reason, equal for equal ones, and the distinct reasons in order."""
    distinct: dict[Reason, int] = {}
    numbers = [distinct.setdefault(reason, len(distinct)) for reason in reasons]
    return np.array(numbers, np.int64), list(distinct)


def _pack(value: Any, columns: list[np.ndarray[Any, Any]]) -> Any:
    """JSON-ready: columns are {"#": number}, dataclasses {"$": [name, fields]}, mappings {"%": pairs}."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, np.ndarray):
        columns.append(value)
        return {"#": len(columns) - 1}
    if isinstance(value, Mapping):
        return {"%": [[key, _pack(item, columns)] for key, item in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        packed_fields = {field.name: _pack(getattr(value, field.name), columns) for field in fields(value)}
        return {"$": [type(value).__name__, packed_fields]}
    return [_pack(item, columns) for item in value]


def _unpack(value: Any, columns: list[np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item, columns) for item in value)
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "#":
        return columns[held]
    if kind == "%":
        return {key: _unpack(item, columns) for key, item in held}
    name, packed_fields = held
    return _KNOWN[name](**{field: _unpack(item, columns) for field, item in packed_fields.items()})


def _decompressed(blob: bytes) -> bytes:
    if not blob.startswith(_MAGIC):
        raise UnreadableSnapshot("not a stored snapshot of this version")
    try:
        return zlib.decompress(blob[len(_MAGIC) :])
    except zlib.error as error:
        raise UnreadableSnapshot(f"damaged ({error})") from None
