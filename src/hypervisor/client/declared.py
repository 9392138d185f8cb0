"""Whether an object of a response has the declared types.

Read only to explain a failure: a valid response costs nothing, and a fault of this program stays one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from hypervisor.client import models, scheduler_models
from hypervisor.client.records import Record

_LARGEST = 2**63
_FREE = {"shortfall": dict[str, float], "nearest_node": str | None, "progress": float, "step": int}
"""Members of the free mappings `reason`, `reason_data` and `checkpoint` that are shown."""
_TIMES = ("earliest", "latest")


def violation(record: Record) -> str | None:
    """The first member, also of a nested object, whose value no server sends; None without one."""
    return next(_violations(record), None)


def _violations(record: Record) -> Iterator[str]:
    declared = _declared(record)
    for key, value in record.items():
        kinds = [hints[key] for hints in declared if key in hints]
        if kinds and not any(_fits(value, kind) for kind in kinds):
            yield f"{key!r} has a value of another type"
        elif (key.endswith("_at") or key == "at" or key in _TIMES) and not _is_time(value):
            yield f"{key!r} is no time"
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Record):
                yield from _violations(part)


def _declared(record: Record) -> list[dict[str, Any]]:
    """The types that share the most keys with the object."""
    shared = [(len(record.keys() & hints.keys()), hints) for hints in _types()]
    most = max(count for count, _ in shared)
    return [hints for count, hints in shared if count == most > 0]


@cache
def _types() -> list[dict[str, Any]]:
    kinds = [kind for module in (models, scheduler_models) for kind in vars(module).values()]
    return [get_type_hints(kind) for kind in kinds if is_typeddict(kind)] + [_FREE]


def _fits(value: object, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, parts[1]) for item in value.values())
    return kind is Any or isinstance(kind, TypeVar) or _fits_plain(value, kind)


def _fits_plain(value: object, kind: Any) -> bool:
    if kind in (None, NoneType):
        return value is None
    if is_typeddict(kind):
        return isinstance(value, dict)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and type(value) is not bool and _is_moderate(value)
    return isinstance(value, kind)


def _is_moderate(value: float) -> bool:
    return abs(value) < _LARGEST and math.isfinite(value)


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    try:
        time = datetime.fromisoformat(value)
        time.astimezone()
    except (ValueError, OverflowError):
        return False
    return time.tzinfo is not None
