"""Rules for all routes: declared permissions, stable names, documented errors, response models."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.permissions import PUBLIC, declared_permissions, undeclared_routes
from hypervisor.app import create_app
from hypervisor.settings import Settings
from tests.support.api import Api

MAY_BE_PUBLIC = {
    "GET /",
    "GET /docs",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /redoc",
    "GET /swagger",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(Settings(_env_file=None))


def test_every_route_declares_a_permission(app: FastAPI) -> None:
    assert undeclared_routes(app.routes) == []
    public = {route for route, permissions in declared_permissions(app.routes) if permissions == ["public"]}
    assert public == MAY_BE_PUBLIC


def test_an_undeclared_route_is_found() -> None:
    router = APIRouter()
    router.add_api_route("/open", lambda: None)
    router.add_api_route("/declared", lambda: None, dependencies=[PUBLIC])
    app = FastAPI()
    app.include_router(router, prefix="/x")
    assert undeclared_routes(app.routes) == ["GET /x/open"]


async def test_private_routes_answer_401_without_a_login(sqlite_api: Api) -> None:
    requested = 0
    for route, permissions in declared_permissions(sqlite_api.app.routes):
        method, path = route.split(" ")
        if permissions == ["public"]:
            continue
        for name in ("organization_id", "user_id", "cluster_id", "node_id", "deployment_id", "decision_id"):
            path = path.replace(f"{{{name}}}", "1")
        answer = await sqlite_api.http.request(method.split(",")[0], path)
        assert answer.status_code == 401, route
        requested += 1
    assert requested > 15


def test_operation_ids_are_unique(app: FastAPI) -> None:
    ids = Counter(operation["operationId"] for operation in _operations(app))
    assert [name for name, number in ids.items() if number > 1] == []


def test_every_operation_is_described(app: FastAPI) -> None:
    for operation in _operations(app):
        assert operation.get("description"), operation["operationId"]
        assert operation.get("tags"), operation["operationId"]


def test_errors_are_documented_as_problems(app: FastAPI) -> None:
    for operation in _operations(app):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                content = answer["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_responses_have_a_model(app: FastAPI) -> None:
    without = [
        context.path
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        and context.include_in_schema
        and context.response_field is None
        and context.status_code != 204
        and not str(context.response_class.media_type).startswith("text/")
    ]
    assert without == []


def test_every_route_with_a_body_refuses_repeated_keys(app: FastAPI) -> None:
    with_body = [
        context.original_route
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.original_route.body_field is not None
    ]
    assert len(with_body) > 10
    assert [route.path for route in with_body if not isinstance(route, JsonRoute)] == []


def test_login_is_what_the_authorize_button_uses(app: FastAPI) -> None:
    (scheme,) = app.openapi()["components"]["securitySchemes"].values()
    assert scheme["type"] == "oauth2"
    assert scheme["flows"]["password"]["tokenUrl"] == "/api/v1/auth/login"
    assert "post" in app.openapi()["paths"]["/api/v1/auth/login"]


def _operations(app: FastAPI) -> list[dict[str, Any]]:
    paths = app.openapi()["paths"].values()
    return [operation for operations in paths for operation in operations.values()]
