"""JSON request bodies without repeated keys.

A parser keeps the last of two equal keys, so a request would mean something else than what stands in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException


class RepeatedKey(HTTPException):
    """A key occurs twice in one object of the body. FastAPI passes this type on without a change."""

    def __init__(self, key: str) -> None:
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, f"the key {key!r} occurs twice in one object")


class JsonRoute(APIRoute):
    """A route that refuses repeated keys in a JSON body. Every router with such bodies uses it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


class _JsonRequest(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise RepeatedKey(key)
    return found
