"""References to things by id or by name."""

from __future__ import annotations

import re

_ID = re.compile(r"0|[1-9][0-9]{0,18}")


def parse_id(text: str) -> int | None:
    """The id of a reference; None for a name. Ids have no leading zeros, so 0644 is a name."""
    return int(text) if _ID.fullmatch(text) else None


def id_or_name(text: str) -> int | str:
    """A reference as the API takes it."""
    found = parse_id(text)
    return text if found is None else found
