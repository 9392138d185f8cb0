"""Errors as `application/problem+json` (RFC 9457): a status, a stable code and a sentence."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from structlog import get_logger
from structlog.contextvars import get_contextvars

from hypervisor.errors import HypervisorError, Unavailable

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
_RETRYABLE_SQLSTATES = {"40001", "40P01", "55P03", "57014", "57P01", "25P03"}
_DISK_FULL_SQLSTATE = "53100"
# What the framework itself refuses. The codes are ours: Python renames statuses between versions.
_HTTP = {
    400: ("bad_request", "The request body cannot be read."),
    404: ("not_found", "There is nothing at this path; /docs lists what there is."),
    405: (
        "method_not_allowed",
        "This path does not take this method; the Allow header and /docs say which it takes.",
    ),
    413: ("body_too_large", "The request body is larger than 1 MiB."),
}

log = get_logger(__name__)


class FieldError(BaseModel):
    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """The body of every error answer. Some errors have further members, for example `retry_after`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: list[FieldError] | None = None


class ProblemResponse(Response):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # ASCII only: an error may quote text that UTF-8 cannot hold.
        return json.dumps(content, separators=(",", ":")).encode()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    extra: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """An error answer; `extra` become further members of the body."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    body |= {name: value for name, value in get_contextvars().items() if name == "request_id"}
    return ProblemResponse({**(extra or {}), **body}, status_code=status, headers=dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: the error answers of a route, as OpenAPI shows them."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Render every error of the app as a problem."""
    app.add_exception_handler(HypervisorError, _refusal)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeout, _database)


def render_refusal(error: HypervisorError) -> ProblemResponse:
    return problem(error.status, error.code, error.detail, extra=error.extra, headers=error.headers)


def render_unexpected(error: Exception) -> ProblemResponse:
    """What went wrong goes to the log, never into the answer."""
    log.error("request.failed", exc_info=error)
    return problem(500, "internal_error", "Something went wrong here; the server's log has the details.")


async def _refusal(_request: Request, error: HypervisorError) -> Response:
    return render_refusal(error)


async def _validation(_request: Request, error: RequestValidationError) -> Response:
    errors = [{"loc": list(item["loc"]), "msg": _message(item)} for item in error.errors()]
    return problem(422, "invalid_request", _sentence(errors), extra={"errors": errors})


async def _http(_request: Request, error: HTTPException) -> Response:
    code, detail = _HTTP.get(error.status_code, (f"http_{error.status_code}", str(error.detail)))
    return problem(error.status_code, code, detail, headers=error.headers)


async def _database(_request: Request, error: Exception) -> Response:
    if _is_disk_full(error):
        log.error("request.disk_full", error=str(error))
        return problem(
            507,
            "disk_full",
            "The server's disk is full; nothing was changed, and what runs goes on. "
            "Its operator has to free room there.",
        )
    if not _is_passing(error):
        return render_unexpected(error)
    log.warning("request.database_unavailable", error=str(error))
    refusal = Unavailable(
        "database_busy",
        "The database did not answer in time; nothing was changed. Try again.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
    return render_refusal(refusal)


def _is_disk_full(error: Exception) -> bool:
    original = getattr(error, "orig", None)
    if getattr(original, "sqlstate", None) == _DISK_FULL_SQLSTATE:
        return True
    return getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _is_passing(error: Exception) -> bool:
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None)
    return (
        error.connection_invalidated
        or sqlstate in _RETRYABLE_SQLSTATES
        or isinstance(error, OperationalError)
    )


def _message(item: Mapping[str, Any]) -> str:
    return str(item["msg"]).removeprefix("Value error, ")


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first problem as a sentence that names the field, and how many more there are."""
    if not errors:
        return "The request is not valid."
    first = errors[0]
    where, *path = [str(part) for part in first["loc"]]
    field = ".".join(path) or f"the {where}"
    more = f" ({len(errors) - 1} more in `errors`.)" if len(errors) > 1 else ""
    return f"{field}: {first['msg']}.{more}".replace("..", ".")
