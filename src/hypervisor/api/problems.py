"""Error responses as `application/problem+json` (RFC 9457): a status, a stable code and a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from structlog import get_logger
from structlog.contextvars import get_contextvars

from hypervisor.api import field_errors
from hypervisor.api.json_body import RepeatedKey
from hypervisor.errors import HypervisorError
from hypervisor.store.outages import Outage, outage_of

MEDIA_TYPE = "application/problem+json"
_OUTAGES = {
    Outage.BUSY: (
        503,
        "database_busy",
        "The database did not answer in time. Nothing was changed. Try again.",
        1,
    ),
    Outage.LOST: (
        503,
        "database_unavailable",
        "The connection to the database was lost. A change may have been made: check, or repeat the request "
        "with the same Idempotency-Key.",
        1,
    ),
    Outage.UNREACHABLE: (
        503,
        "database_unavailable",
        "The database cannot be reached now. Nothing was changed, and running workloads continue. Try again "
        "in 5 s; /readyz shows when the server can work again.",
        5,
    ),
    Outage.READ_ONLY: (
        503,
        "database_read_only",
        "The database is read-only now. Nothing was changed, and running workloads continue. Try again "
        "in 5 s; /readyz shows when the server can work again.",
        5,
    ),
    Outage.DISK_FULL: (
        507,
        "disk_full",
        "The server's disk is full. Nothing was changed, and running workloads continue. "
        "The operator must free disk space.",
        60,
    ),
}
# Errors of the framework. The codes are fixed here, because Python renames statuses between versions.
_FRAMEWORK_ERRORS = {
    400: (
        "bad_request",
        "The request body cannot be read. Send valid JSON, or the form that /docs describes.",
    ),
    404: ("not_found", "There is no such path. /docs lists all paths."),
    405: (
        "method_not_allowed",
        "This path does not support this method. The Allow header and /docs list the supported methods.",
    ),
    413: ("body_too_large", "The request body is larger than 1 MiB. Send a smaller one."),
}

log = get_logger(__name__)


class FieldError(BaseModel):
    """An invalid field: its location in the request and the reason."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """The body of every error response. Some errors have more fields, for example `retry_after`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: list[FieldError] | None = None


class ProblemResponse(Response):
    """A response with a problem as its body."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # ASCII only: an error may quote text that UTF-8 cannot encode.
        return json.dumps(content, separators=(",", ":")).encode()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    extra: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """Make an error response. `extra` adds fields to the body."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    body |= {name: value for name, value in get_contextvars().items() if name == "request_id"}
    return ProblemResponse({**(extra or {}), **body}, status_code=status, headers=dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: the error responses of a route in the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Render every error of the app as a problem."""
    app.add_exception_handler(HypervisorError, _on_refusal)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _on_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(RepeatedKey, _on_repeated_key)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_http_error)  # type: ignore[arg-type]
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeout, _on_database_error)
    app.add_exception_handler(ConnectionError, _on_database_error)


def render_refusal(error: HypervisorError) -> ProblemResponse:
    """The response for an error of the product."""
    return problem(error.status, error.code, error.detail, extra=error.extra, headers=error.headers)


def render_unexpected(error: Exception) -> ProblemResponse:
    """The response for an outage of the database, or for an unexpected error.

    The details go to the log, never to the client.
    """
    outage = outage_of(error)
    if outage is not None:
        return _render_outage(outage, error)
    log.error("request.failed", exc_info=error)
    return problem(
        500,
        "internal_error",
        "The server had an internal error. Its log has the details under this `request_id`.",
    )


async def _on_refusal(_request: Request, error: HypervisorError) -> Response:
    return render_refusal(error)


async def _on_invalid(_request: Request, error: RequestValidationError) -> Response:
    return _invalid([_field_error(item, error.body) for item in field_errors.of_one_branch(error.errors())])


async def _on_repeated_key(_request: Request, error: RepeatedKey) -> Response:
    return _invalid([{"loc": ["body"], "msg": error.detail}])


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Response:
    return problem(422, "invalid_request", _validation_detail(errors), extra={"errors": errors})


async def _on_http_error(_request: Request, error: HTTPException) -> Response:
    code, detail = _FRAMEWORK_ERRORS.get(error.status_code, (f"http_{error.status_code}", str(error.detail)))
    headers = dict(error.headers or {})
    if "GET" in headers.get("Allow", "").split(", "):
        headers["Allow"] += ", HEAD"
    return problem(error.status_code, code, detail, headers=headers)


async def _on_database_error(_request: Request, error: Exception) -> Response:
    return render_unexpected(error)


def _render_outage(outage: Outage, error: Exception) -> ProblemResponse:
    event = "request.disk_full" if outage is Outage.DISK_FULL else "request.database_unavailable"
    log.warning(event, error=(str(error).splitlines() or [type(error).__name__])[0])
    status, code, detail, seconds = _OUTAGES[outage]
    return problem(status, code, detail, headers={"Retry-After": str(seconds)})


def _field_error(item: Mapping[str, Any], body: object) -> dict[str, Any]:
    """A `FieldError` for an error of the framework; `body` is the text of a body that is not JSON."""
    if item["type"] == "json_invalid":
        return {"loc": ["body"], "msg": _json_error(str(body), item["loc"][-1], item["ctx"]["error"])}
    return {"loc": list(item["loc"]), "msg": field_errors.message(item)}


def _json_error(text: str, position: int, reason: str) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"not valid JSON at line {line}, column {column}: {reason[:1].lower()}{reason[1:]}"


def _validation_detail(errors: Sequence[Mapping[str, Any]]) -> str:
    """A sentence with the first invalid field, and the number of others."""
    if not errors:
        return "The request is not valid."
    first = errors[0]
    where, *path = [str(part) for part in first["loc"] if part != "[key]"]
    field = ".".join(path) or f"the {where}"
    more = f" ({len(errors) - 1} more in `errors`.)" if len(errors) > 1 else ""
    return f"{field}: {first['msg'].removesuffix('.')}.{more}"
