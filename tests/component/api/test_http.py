"""Rules for every request: problems, headers, body limits, documentation pages, health."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from hypervisor.api.permissions import PUBLIC
from tests.support.api import Api, ok, refused

PAGES = ("/docs", "/redoc", "/swagger/")


async def test_unknown_paths_and_methods_are_problems(sqlite_api: Api) -> None:
    refused(await sqlite_api.http.get("/nowhere"), 404, "not_found")
    refused(await sqlite_api.http.get("/api/v1/nowhere"), 404, "not_found")
    answer = await sqlite_api.http.get("/api/v1/auth/login")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_validation_problem_names_the_field_in_a_sentence(sqlite_api: Api) -> None:
    answer = await sqlite_api.http.post("/api/v1/auth/register", json={"username": "ada", "password": "x"})
    problem = refused(answer, 422, "invalid_request")
    assert problem["detail"].startswith("email: Field required.")
    assert [error["loc"][-1] for error in problem["errors"]] == ["email", "password"]


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"text"', b"\xff\xfe", b"null", b"{" * 5000])
async def test_broken_bodies_are_refused(sqlite_api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await sqlite_api.http.post("/api/v1/auth/register", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "line 1, column 2: expecting property name"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6: expecting ':' delimiter"),
        (b"\n\n  nonsense", "line 3, column 3: expecting value"),
        (b'{"a": "x', "line 1, column 7: unterminated string"),
        (b"{} {}", "line 1, column 4: extra data"),
    ],
)
async def test_a_body_that_is_not_json_is_refused_with_the_place(
    sqlite_api: Api, body: bytes, place: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = await sqlite_api.http.post("/api/v1/auth/register", content=body, headers=headers)
    problem = refused(answer, 422, "invalid_request")
    assert f"the body: not valid JSON at {place}" in problem["detail"]
    assert problem["errors"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    "body",
    [
        '{"username": "ada", "username": "eve"}',
        '{"username": {"a": 1, "b": 2, "a": 1}}',
        '[{"username": 1, "\\u0075sername": 2}]',
    ],
)
async def test_a_repeated_key_is_refused_and_named(sqlite_api: Api, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await sqlite_api.http.post("/api/v1/auth/register", content=body, headers=headers)
    problem = refused(answer, 422, "invalid_request")
    key = "'a'" if '{"a"' in body else "'username'"
    assert problem["detail"] == f"the body: the key {key} occurs twice in one object."


async def test_bodies_over_a_mebibyte_are_refused(sqlite_api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    headers = {"content-type": "application/json"}
    for content in (b" " * (1024 * 1024 + 1), chunks()):
        answer = await sqlite_api.http.post("/api/v1/auth/register", content=content, headers=headers)
        refused(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/nowhere", "/docs", "/static/docs/swagger-ui.css", "/api/v1/auth/me"]
)
async def test_every_answer_has_the_security_headers_and_an_id(sqlite_api: Api, path: str) -> None:
    answer = await sqlite_api.http.get(path, headers={"X-Request-ID": "my-request.1"})
    assert answer.headers["X-Request-ID"] == "my-request.1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    for bad in ("two words", "x" * 65, "é"):
        again = await sqlite_api.http.get(path, headers={b"X-Request-ID": bad.encode()})
        assert re.fullmatch("[0-9a-f]{16}", again.headers["X-Request-ID"])


async def test_answers_of_the_api_are_not_stored(sqlite_api: Api) -> None:
    answer = await sqlite_api.http.post("/api/v1/auth/login", data={"username": "a", "password": "b"})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
async def test_documentation_loads_nothing_from_another_server(sqlite_api: Api, path: str) -> None:
    page = await sqlite_api.http.get(path)
    assert "://" not in page.text
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"].split("style-src")[0]
    loaded = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert loaded
    for address in loaded:
        answer = await sqlite_api.http.get(address)
        assert answer.status_code == 200, address
        assert len(answer.content) > 300


async def test_the_bundles_load_nothing_from_a_cdn(sqlite_api: Api) -> None:
    redoc = await sqlite_api.http.get("/static/docs/redoc.standalone.js")
    assert "cdn.redoc.ly" not in redoc.text
    settings = await sqlite_api.http.get("/static/docs/swagger-init.js")
    assert "validatorUrl: null" in settings.text


async def test_health_and_readiness(sqlite_api: Api) -> None:
    assert ok(await sqlite_api.http.get("/healthz")) == {"status": "ok"}
    ok(await sqlite_api.http.get("/readyz"))
    sqlite_api.services.stopping.set()
    refused(await sqlite_api.http.get("/readyz"), 503, "stopping")
    ok(await sqlite_api.http.get("/healthz"))


async def test_the_root_lists_the_entry_points(sqlite_api: Api) -> None:
    assert ok(await sqlite_api.http.get("/"))["docs"] == "/docs"


async def test_internal_errors_do_not_leak_details(sqlite_api: Api) -> None:
    def fail(error: Exception) -> Any:
        async def endpoint() -> None:
            raise error

        return endpoint

    secret = "postgresql://user:hunter2@db"
    lost = OperationalError(secret, {}, OSError("gone"))
    sqlite_api.app.add_api_route("/broken", fail(ValueError(secret)), dependencies=[PUBLIC])
    sqlite_api.app.add_api_route("/busy", fail(lost), dependencies=[PUBLIC])

    broken = await sqlite_api.http.get("/broken")
    assert "hunter2" not in str(refused(broken, 500, "internal_error"))
    assert broken.headers["X-Request-ID"]
    busy = await sqlite_api.http.get("/busy")
    assert "hunter2" not in str(refused(busy, 503, "database_busy"))
    assert busy.headers["Retry-After"] == "1"
