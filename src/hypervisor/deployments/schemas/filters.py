"""Query parameters that filter lists of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query
from pydantic import BeforeValidator

from hypervisor.api.schema import SafeStr
from hypervisor.errors import Invalid
from hypervisor.kernel.priority import parse_priority
from hypervisor.lifecycle.states import State


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _priority(text: Any) -> Any:
    return parse_priority(text) if isinstance(text, str) else text


States = Annotated[
    Sequence[Annotated[State, BeforeValidator(_upper)]],
    Query(description="Repeatable: matches any of them.", max_length=len(State)),
]
StatusAlias = Annotated[
    Sequence[Annotated[State, BeforeValidator(_upper)]],
    Query(
        description="The same as `state`, under the name of the field in responses.", max_length=len(State)
    ),
]
PriorityFilter = Annotated[
    Annotated[int, BeforeValidator(_priority)] | None,
    Query(description="LOW, MEDIUM, HIGH, CRITICAL or a number from 0 to 1000."),
]
Labels = Annotated[
    Sequence[SafeStr],
    Query(description="`key=value` or `key`. Repeatable: all must match.", max_length=16),
]


def one_of_states(states: Sequence[State], status: Sequence[State]) -> Sequence[State]:
    """The values of the parameter that is given. Raises Invalid for both."""
    if states and status:
        raise Invalid("state_and_status", "`status` and `state` are the same filter. Give one of them.")
    return states or status


def parse_labels(texts: Sequence[str]) -> list[tuple[str, str | None]]:
    """`key=value` as (key, value), `key` alone as (key, None)."""
    labels: list[tuple[str, str | None]] = []
    for text in texts:
        key, sign, value = text.partition("=")
        labels.append((key, value if sign else None))
    return labels
