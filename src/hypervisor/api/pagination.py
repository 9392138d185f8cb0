"""Keyset pagination: a page has `items` and, if there are more, the `next_cursor` for the next page."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from hypervisor.errors import Invalid

T = TypeVar("T")

MAX_PAGE = 100
DEFAULT_PAGE = 50

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The largest number of items to return.")]
Cursor = Annotated[
    str | None,
    Query(max_length=512, description="The `next_cursor` of the previous page. Omit it for the first page."),
]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = None


def encode_cursor(*key: int | str) -> str:
    """Encode the sort key of the last row of a page as opaque text."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type[int] | type[str]) -> tuple[Any, ...]:
    """Decode a cursor into the sort key, one value for each kind. Raises Invalid for other text."""
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != len(kinds) or not all(map(_is_kind, key, kinds)):
        raise Invalid(
            "invalid_cursor",
            "`cursor` is not valid. Use the `next_cursor` of this list, or omit it to start again.",
        )
    return tuple(key)


def page_of(rows: Sequence[T], limit: int, cursor_of: Any) -> Page[T]:
    """Make a page of at most `limit` rows. One more row means that there is a next page."""
    shown = list(rows[:limit])
    more = len(rows) > limit
    return Page(items=shown, next_cursor=cursor_of(shown[-1]) if more else None)


def _is_kind(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, str) and "\0" not in value
