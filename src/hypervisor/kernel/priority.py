"""Priorities: integers from 0 to 1000, four of them with names."""

from __future__ import annotations

MIN_PRIORITY = 0
MAX_PRIORITY = 1000
NAMED_PRIORITIES = {"LOW": 100, "MEDIUM": 500, "HIGH": 750, "CRITICAL": 1000}
DEFAULT_PRIORITY = NAMED_PRIORITIES["MEDIUM"]

_NAMES = {value: name for name, value in NAMED_PRIORITIES.items()}
_DESCENDING = sorted(NAMED_PRIORITIES, key=lambda name: -NAMED_PRIORITIES[name])


class InvalidPriority(ValueError):
    """The value is not a priority. The message lists the valid values."""


def parse_priority(value: int | str) -> int:
    """Turn "HIGH", "high", "750" or 750 into 750. Raises InvalidPriority."""
    if isinstance(value, str):
        name = value.strip().upper()
        if name in NAMED_PRIORITIES:
            return NAMED_PRIORITIES[name]
        if not name.isascii() or not name.isdigit():
            raise InvalidPriority(_hint(value))
        # Cut: int() refuses thousands of digits, and more than six are out of range anyway.
        value = int(name.lstrip("0")[:6] or "0")
    if isinstance(value, bool) or not MIN_PRIORITY <= value <= MAX_PRIORITY:
        raise InvalidPriority(_hint(value))
    return value


def priority_label(value: int) -> str:
    """The name of a priority ("HIGH"), or its number ("612") if it has no name."""
    return _NAMES.get(value, str(value))


def priority_class(value: int) -> str:
    """The highest named priority at or below `value`; LOW for everything below MEDIUM."""
    return next((name for name in _DESCENDING if NAMED_PRIORITIES[name] <= value), "LOW")


def _hint(value: object) -> str:
    names = ", ".join(NAMED_PRIORITIES)
    return f"priority must be one of {names} or a whole number from 0 to 1000, not {value!r}"
