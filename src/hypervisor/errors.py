"""Errors that users see: each has an HTTP status, a stable code and a sentence with advice.

Services raise them. The app renders them as `application/problem+json` (RFC 9457), the CLI as one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar


class HypervisorError(Exception):
    """Base of all errors that users see.

    `code` is stable and for programs; `detail` is a sentence for people. `extra` adds members to the problem
    object, `headers` adds response headers (for example `Retry-After`).
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


class Unauthenticated(HypervisorError):
    status = HTTPStatus.UNAUTHORIZED


class Forbidden(HypervisorError):
    status = HTTPStatus.FORBIDDEN


class NotFound(HypervisorError):
    status = HTTPStatus.NOT_FOUND


class Conflict(HypervisorError):
    status = HTTPStatus.CONFLICT


class Invalid(HypervisorError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequests(HypervisorError):
    status = HTTPStatus.TOO_MANY_REQUESTS


class Unavailable(HypervisorError):
    status = HTTPStatus.SERVICE_UNAVAILABLE


class StartupError(Exception):
    """The process cannot start with this configuration. The message is one line with advice."""
