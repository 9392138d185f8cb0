"""Serves the documentation pages from files of the package; no page loads anything from another server."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from hypervisor.api.permissions import PUBLIC
from hypervisor.api.services import AppServices, ServicesDep

STATIC_PATH = "/static"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MLOps Hypervisor API</title>
<link rel="icon" type="image/png" href="{root}/static/docs/favicon.png">
"""

_SWAGGER = """<link rel="stylesheet" href="{root}/static/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{root}/static/docs/swagger-ui-bundle.js"></script>
<script src="{root}/static/docs/swagger-init.js"></script>
</body>
</html>
"""

_REDOC = """</head>
<body>
<redoc spec-url="{root}/openapi.json"></redoc>
<script src="{root}/static/docs/redoc.standalone.js"></script>
</body>
</html>
"""

router = APIRouter(include_in_schema=False, dependencies=[PUBLIC])


@router.get("/docs")
@router.get("/swagger")
async def swagger(services: ServicesDep) -> HTMLResponse:
    """Swagger UI. Its Authorize button logs in with the OAuth2 password form."""
    return _page(_SWAGGER, services)


@router.get("/redoc")
async def redoc(services: ServicesDep) -> HTMLResponse:
    """ReDoc, the reference view of the same API."""
    return _page(_REDOC, services)


def static_files() -> StaticFiles:
    """The app that serves the files below `STATIC_PATH`."""
    return StaticFiles(directory=Path(str(resources.files("hypervisor.api") / "static")))


def _page(rest: str, services: AppServices) -> HTMLResponse:
    root = escape(services.settings.link_prefix)
    return HTMLResponse((_HEAD + rest).format(root=root), headers={"Content-Security-Policy": _POLICY})
