"""The exceptions of the SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

PROBLEM_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "instance"})


class ClientError(Exception):
    """The base of all exceptions of the SDK. The message is one line."""


class Unreachable(ClientError):
    """There was no response: the server is not running, not reachable, or too slow."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"cannot reach {url}: {cause}")
        self.url = url
        self.cause = cause


class ServerAway(ClientError):
    """A wait was given up because the server did not answer for `seconds`. `cause` is the last error."""

    def __init__(self, seconds: float, cause: ClientError) -> None:
        super().__init__(f"gave up after {seconds:g} s without the server: {cause}")
        self.seconds = seconds
        self.cause = cause


class ApiError(ClientError):
    """The server refused the request (RFC 9457). `code` is stable for programs, `detail` is for people.

    `extra` has the other members of the problem document, such as a shortfall or the index in a batch.
    `retry_after` is the delay in seconds that the server asks for, if any.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        extra: Mapping[str, object] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})
        self.retry_after = retry_after

    @classmethod
    def from_body(cls, status: int, body: str, retry_after: str | None = None) -> ApiError:
        """Parse a problem document. Any other body becomes a general sentence about the status.

        `retry_after` is the header, of which only the form in seconds is used.
        """
        problem = _parse(body)
        code = str(problem.get("code") or f"http_{status}")
        detail = str(problem.get("detail") or problem.get("title") or _status_sentence(status))
        extra = {key: value for key, value in problem.items() if key not in PROBLEM_MEMBERS}
        delay = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return cls(status, code, detail, extra, delay)


def _parse(body: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _status_sentence(status: int) -> str:
    try:
        return f"the server answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"the server answered {status}"
