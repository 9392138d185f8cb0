"""Builds the OpenAPI document: tags, the schema of problems, stable operation ids."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from hypervisor.api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """Queues, places and runs deployments on shared clusters, and explains each decision.

Register and log in (use the *Authorize* button on this page). Create an organization, or join one with an
invite code. Then add a cluster and submit deployments.

Errors are `application/problem+json` (RFC 9457): `code` is stable, and `detail` says what is wrong and what
to do."""

TAGS = [
    {"name": "Accounts", "description": "Registration, logins, sessions."},
    {"name": "Organizations", "description": "Tenants: members, roles, invite codes."},
    {"name": "Clusters", "description": "Nodes with CPU, RAM and GPUs, their capacity and their use."},
    {
        "name": "Deployments",
        "description": "Workloads: submit, follow and stop them, and explain why they are pending.",
    },
    {"name": "Service", "description": "Health, metrics and version of the server."},
]


def operation_id(route: APIRoute) -> str:
    """Use the function's name as operation id: it stays when a path changes."""
    return route.name


def install(app: FastAPI, link_prefix: str = "") -> None:
    """Make `app.openapi()` return this document. It is built once, on first use.

    `link_prefix` is the path before all paths of the API, without a trailing slash.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, link_prefix)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(app: FastAPI, link_prefix: str) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            _describe_validation(operation)
    if link_prefix:
        schema["servers"] = [{"url": link_prefix}]
        for scheme in components["securitySchemes"].values():
            for flow in scheme.get("flows", {}).values():
                flow["tokenUrl"] = link_prefix + flow["tokenUrl"]
    return schema


def _describe_validation(operation: dict[str, Any]) -> None:
    """Replace FastAPI's schema of status 422 by Problem, which the server returns."""
    invalid = operation.get("responses", {}).get("422")
    if invalid is not None:
        invalid["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
