"""Refuses query parameters that a route does not declare, and repeats of those that have one value.

An ignored filter would answer with more than was requested, as an ignored field of a body would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

MAX_SHOWN = 100
"""Characters of an unknown name that an error shows."""


@dataclass(frozen=True, slots=True)
class _Declared:
    names: Set[str]
    repeatable: Set[str]


class QueryCheck:
    """A dependency for all routes of an app."""

    def __init__(self) -> None:
        self._declared: dict[int, _Declared] = {}

    async def __call__(self, request: Request) -> None:
        """Raises RequestValidationError with one error for each wrong name."""
        if not request.scope["query_string"]:
            return
        names = [name for name, _ in request.query_params.multi_items()]
        if errors := list(_errors(names, self._of(request.scope["route"]))):
            raise RequestValidationError(errors)

    def _of(self, route: Any) -> _Declared:
        declared = self._declared.get(id(route))
        if declared is None:
            parameters = dict(declared_parameters(route.dependant))
            repeatable = {name for name, is_repeatable in parameters.items() if is_repeatable}
            declared = self._declared[id(route)] = _Declared(parameters.keys(), repeatable)
        return declared


def declared_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """The name of each query parameter, and whether it may be repeated; with those of sub-dependencies."""
    for field in dependant.query_params:
        yield field.alias, _is_sequence(field.field_info.annotation)
    for below in dependant.dependencies:
        yield from declared_parameters(below)


def _errors(names: list[str], declared: _Declared) -> Iterator[Mapping[str, Any]]:
    for name, count in Counter(names).items():
        if name not in declared.names:
            yield _error(name, f"is not a query parameter of this path ({_advice(name, declared.names)})")
        elif count > 1 and name not in declared.repeatable:
            yield _error(name, f"is given {count} times and has one value")


def _error(name: str, message: str) -> Mapping[str, Any]:
    return {"type": "query_parameter", "loc": ("query", name[:MAX_SHOWN]), "msg": message}


def _advice(name: str, known: Set[str]) -> str:
    close = get_close_matches(name.lower(), sorted(known), n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"it has: {', '.join(sorted(known))}" if known else "it has none"


def _is_sequence(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_sequence(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(map(_is_sequence, get_args(annotation)))
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, (Sequence, Set)) and not issubclass(kind, (str, bytes))
