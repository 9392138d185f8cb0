"""Fields whose values are the names in a registry: checked against it, and listed in the API's schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import AfterValidator

from hypervisor.scheduling.snapshots.wording import listed

Names = Callable[[], Sequence[str]]


def one_of(names: Names) -> AfterValidator:
    """Refuses values that are not registered; the message lists the names."""

    def check(value: str) -> str:
        registered = names()
        if value not in registered:
            raise ValueError(f"must be one of {listed(registered, 'or')}")
        return value

    return AfterValidator(check)


def enum_of(names: Names) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra`: the names that are registered when the schema is built."""

    def extend(schema: dict[str, Any]) -> None:
        schema["enum"] = list(names())

    return extend
