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


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"env": {"A": 1.1}}, "env.A: must be a text, not 1.1: write it in quotes."),
        ({"env": {"A": False}}, "env.A: must be a text, not false: write it in quotes."),
        ({"env": {"A": None}}, "env.A: must be a text, not null: write it in quotes."),
        ({"env": {"A": [1]}}, "env.A: must be a text, not a list."),
        ({"labels": {"a": 420}}, "labels.a: must be a text, not 420: write it in quotes."),
        ({"command": ["x", 45045]}, "command.1: must be a text, not 45045: write it in quotes."),
        ({"name": {"a": 1}}, "name: must be a text, not an object."),
        ({"gpu_model": 4090}, "gpu_model: must be a text, not 4090: write it in quotes."),
        ({"imgae": "x"}, "imgae: there is no such field."),
    ],
)
def test_a_value_that_is_not_a_text_is_named_with_the_fix(fields: dict[str, Any], detail: str) -> None:
    assert _detail(**fields) == detail


@pytest.mark.parametrize("reason", ["must not be x", "must not be x."])
def test_the_sentence_has_one_full_stop(reason: str) -> None:
    found = problems._validation_detail([{"loc": ["body", "name"], "msg": reason}])
    assert found == "name: must not be x."


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {"depends_on": [{"deployment": "a", "condition": "done"}]},
            "depends_on.0.condition: must be 'succeeded' or 'running', not \"done\".",
        ),
        ({"depends_on": [0]}, "depends_on.0: must be at least 1, not 0."),
        ({"depends_on": [1.5]}, "depends_on.0: must be a whole number or a text or an object, not 1.5."),
        (
            {"depends_on": [{"deployment": []}]},
            "depends_on.0.deployment: must be a whole number or a text, not [].",
        ),
        ({"env": {"A": {"value": "x", "secrt": True}}}, "env.A.secrt: there is no such field."),
        ({"env": {"A-B": "x"}}, 'env.A-B: "A-B" does not match ^[A-Za-z_][A-Za-z0-9_]*$.'),
        ({"kind": "jobb"}, "kind: must be 'service' or 'job', not \"jobb\"."),
        ({"required_cpu_cores": -1}, "required_cpu_cores: must be at least 0, not -1."),
    ],
)
def test_one_fault_is_one_error_in_plain_words(fields: dict[str, Any], detail: str) -> None:
    assert _detail(**fields) == detail
