"""Refusals that people see: each has a status, a stable code and a sentence that says what to do.

Services raise these; the app renders them as `application/problem+json` (RFC 9457), the CLI as one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar


class HypervisorError(Exception):
    """A refusal. `code` is stable for programs, `detail` is for people, `extra` are further members.

    `headers` go out with the answer (for example `Retry-After`).
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
    """The program cannot start as configured; the message is one line that says what to change."""
