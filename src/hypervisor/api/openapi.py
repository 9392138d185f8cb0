"""The OpenAPI description: tags, the schema of problems, stable operation ids."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from hypervisor.api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """Who may use which GPUs, what runs where, what waits, what yields, and why.

Register, log in (the *Authorize* button does it here), create an organization or join one by invite code,
add a cluster and submit deployments. Errors are `application/problem+json`: `code` is stable, `detail` says
what to do."""

TAGS = [
    {"name": "Accounts", "description": "Registration, logins, sessions."},
    {"name": "Organizations", "description": "Tenants: members, roles, invite codes."},
    {"name": "Clusters", "description": "Nodes with CPU, RAM and GPUs, and what is used of them."},
    {"name": "Deployments", "description": "Workloads: submit, follow, stop, and ask why they wait."},
    {"name": "Service", "description": "Health of the server."},
]


def operation_id(route: APIRoute) -> str:
    """The function's name: stable while paths move."""
    return route.name


def install(app: FastAPI) -> None:
    """Make `app.openapi()` answer our description; built once, on first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
    )
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(problem.pop("$defs", {}))
    components["Problem"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            _describe_validation(operation)
    return schema


def _describe_validation(operation: dict[str, Any]) -> None:
    """What FastAPI says about 422 is not what we answer."""
    invalid = operation.get("responses", {}).get("422")
    if invalid is not None:
        invalid["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
