"""Responses as dictionaries. A missing key raises UnexpectedResponse: the URL may be of another server."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, NoReturn

import httpx2

from hypervisor.client.errors import UnexpectedResponse


class Record(dict[str, Any]):
    """An object of a response."""

    def __init__(self, url: str, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.url = url

    def __missing__(self, key: str) -> NoReturn:
        raise UnexpectedResponse(self.url, f"the JSON has no {key!r}")


def read_response(url: str, response: httpx2.Response) -> Record:
    """The JSON object of a response; an empty Record for an empty body.

    Raises UnexpectedResponse for any other body.
    """
    if not response.content:
        return Record(url, {})
    kind = _content_type(response)
    if not kind.endswith("json"):
        raise UnexpectedResponse(url, f"Content-Type {kind or 'is missing'}")
    return parse_object(url, response.content)


def parse_object(url: str, text: str | bytes) -> Record:
    """A JSON object of a response. Raises UnexpectedResponse for anything else."""
    try:
        parsed = json.loads(text, object_hook=lambda members: Record(url, members))
    except (ValueError, RecursionError):
        raise UnexpectedResponse(url, "no valid JSON") from None
    if not isinstance(parsed, Record):
        raise UnexpectedResponse(url, "no JSON object")
    return parsed


def check_content_type(url: str, response: httpx2.Response, expected: str) -> None:
    """Raise UnexpectedResponse for another media type. An empty response may have none."""
    kind = _content_type(response)
    if kind != expected and response.status_code != HTTPStatus.NO_CONTENT:
        raise UnexpectedResponse(url, f"Content-Type {kind or 'is missing'}")


def _content_type(response: httpx2.Response) -> str:
    """The media type without parameters, in lower case; empty without one."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def records(url: str, items: Any) -> list[Any]:
    """The items of a page, checked. Raises UnexpectedResponse when they are not a list of objects."""
    if not isinstance(items, list) or not all(isinstance(item, Record) for item in items):
        raise UnexpectedResponse(url, "the items are not a list of JSON objects")
    return items


def next_cursor(url: str, page: Record) -> str | None:
    """The cursor of the next page, None for the last page. Raises UnexpectedResponse for another value."""
    cursor = page.get("next_cursor")
    if not isinstance(cursor, str | None):
        raise UnexpectedResponse(url, "next_cursor is no text")
    return cursor or None
