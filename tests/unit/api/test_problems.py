"""The sentence of a refused request: the first invalid field and its reason, word for word."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hypervisor.api import problems
from hypervisor.deployments.schemas.requests import DeploymentCreate


def _detail(**fields: Any) -> str:
    app = FastAPI()
    problems.install(app)

    @app.post("/")
    def create(request: DeploymentCreate) -> None:
        """Never reached."""

    answer = TestClient(app).post("/", json={"name": "x", **fields})
    assert answer.status_code == 422
    detail: str = answer.json()["detail"]
    return detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {"working_dir": "/a/../b"},
            'working_dir: must be an absolute path without "..", such as /workspace.',
        ),
        (
            {"working_dir": "../b"},
            'working_dir: must be an absolute path without "..", such as /workspace.',
        ),
        ({"working_dir": "data"}, "working_dir: must be an absolute path, such as /workspace."),
        ({"working_dir": "./a..b"}, "working_dir: must be an absolute path, such as /workspace."),
        (
            {"docker_image": "-v"},
            'docker_image: must be an image name like "python:3.12" or '
            '"registry.example.com/team/app@sha256:...".',
        ),
        (
            {"ports": [1, 1], "working_dir": "data"},
            "ports: a port is given twice. (1 more in `errors`.)",
        ),
    ],
)
def test_the_reason_is_quoted_unchanged(fields: dict[str, Any], detail: str) -> None:
    assert _detail(**fields) == detail


@pytest.mark.parametrize("reason", ["must not be x", "must not be x."])
def test_the_sentence_has_one_full_stop(reason: str) -> None:
    found = problems._validation_detail([{"loc": ["body", "name"], "msg": reason}])
    assert found == "name: must not be x."
