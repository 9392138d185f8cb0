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

    def __init__(self, url: str, cause: str, *, proxy: str | None = None) -> None:
        through = f" through the proxy {proxy}" if proxy else ""
        super().__init__(f"cannot reach {url}{through}: {cause}")
        self.url = url
        self.cause = cause
        self.proxy = proxy


class UnexpectedResponse(ClientError):
    """The response is none of a Hypervisor server: the URL is that of another server."""

    def __init__(self, url: str, finding: str) -> None:
        super().__init__(f"the response of {url} is not from a Hypervisor server ({finding}): check the URL")
        self.url = url


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
    def from_body(
        cls, status: int, body: str, retry_after: str | None = None, *, proxy: str | None = None
    ) -> ApiError:
        """Parse a problem document. Any other body becomes a general sentence about the status.

        `retry_after` is the header, of which only the form in seconds is used. The sentence names the proxy,
        if any, because the proxy may be the sender.
        """
        problem = _parse(body)
        code = _text(problem, "code") or f"http_{status}"
        detail = _text(problem, "detail") or _text(problem, "title") or _status_sentence(status, proxy)
        extra = {key: value for key, value in problem.items() if key not in PROBLEM_MEMBERS}
        delay = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return cls(status, code, detail, extra, delay)


def _parse(body: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(problem: Mapping[str, object], member: str) -> str | None:
    value = problem.get(member)
    return value if isinstance(value, str) and value.strip() else None


def _status_sentence(status: int, proxy: str | None) -> str:
    sender = f"the server or the proxy {proxy}" if proxy else "the server"
    try:
        return f"{sender} answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{sender} answered {status}"
