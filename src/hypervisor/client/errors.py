"""What can go wrong between a caller and the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

PROBLEM_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "instance"})


class ClientError(Exception):
    """Anything that this package raises; the message is one line for people."""


class Unreachable(ClientError):
    """No answer came: the server is not running, not there, or did not answer in time."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"cannot reach {url}: {why}")
        self.url = url
        self.why = why


class ApiError(ClientError):
    """The server said no (RFC 9457). `code` is stable for programs, `detail` is the sentence for people.

    `extra` holds the problem's further members (a shortfall, the index in a batch, ...).
    """

    def __init__(
        self, status: int, code: str, detail: str, extra: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})

    @classmethod
    def from_body(cls, status: int, body: str) -> ApiError:
        """Read a problem document; any other body becomes a general sentence about the status."""
        problem = _parse(body)
        code = str(problem.get("code") or f"http_{status}")
        detail = str(problem.get("detail") or problem.get("title") or _phrase(status))
        extra = {key: value for key, value in problem.items() if key not in PROBLEM_MEMBERS}
        return cls(status, code, detail, extra)


def _parse(body: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _phrase(status: int) -> str:
    try:
        return f"the server answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"the server answered {status}"
