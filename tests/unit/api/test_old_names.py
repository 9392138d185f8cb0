"""Renamed fields: every request accepts the old name, refuses both, and OpenAPI marks the old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from hypervisor.api.schema import RequestModel
from hypervisor.app import create_app
from hypervisor.clusters.schemas import ClusterCreate, ClusterUpdate
from hypervisor.deployments.schemas.requests import DeploymentCreate, DeploymentUpdate
from hypervisor.settings import Settings

CLUSTER = {"name": "c", "total_cpu_cores": 1, "total_ram_gb": 1}
RENAMED: list[tuple[type[RequestModel], dict[str, Any], str, str, Any]] = [
    (ClusterCreate, CLUSTER, "placement", "placement_policy", "spread"),
    (ClusterCreate, CLUSTER, "improvement_steps", "optimizer_steps", 7),
    (ClusterCreate, CLUSTER, "packer", "solver", "exact"),
    (ClusterCreate, CLUSTER, "preemption_rest_seconds", "preemption_cooldown_seconds", 7),
    (ClusterUpdate, {}, "placement", "placement_policy", "spread"),
    (ClusterUpdate, {}, "improvement_steps", "optimizer_steps", 7),
    (ClusterUpdate, {}, "packer", "solver", "exact"),
    (ClusterUpdate, {}, "preemption_rest_seconds", "preemption_cooldown_seconds", 7),
    (DeploymentCreate, {"name": "d"}, "placement", "replica_placement", "spread"),
    (DeploymentUpdate, {}, "placement", "replica_placement", "spread"),
]
each_renamed = pytest.mark.parametrize(
    ("model", "body", "old", "new", "value"), RENAMED, ids=[f"{one[0].__name__}.{one[2]}" for one in RENAMED]
)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    found: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()["components"]["schemas"]
    return found


def test_every_old_name_is_tested() -> None:
    declared = {(model, *pair) for model in _request_models(RequestModel) for pair in model.old_names.items()}
    assert declared == {(model, old, new) for model, _, old, new, _ in RENAMED}


@each_renamed
def test_the_old_name_sets_the_new_field(
    model: type[RequestModel], body: dict[str, Any], old: str, new: str, value: Any
) -> None:
    request = model.model_validate({**body, old: value})
    assert getattr(request, new) == value
    assert request == model.model_validate({**body, new: value})
    assert new in request.model_fields_set


@each_renamed
def test_both_names_are_refused(
    model: type[RequestModel], body: dict[str, Any], old: str, new: str, value: Any
) -> None:
    with pytest.raises(ValidationError, match=f"give {new} only: {old} is the old name of the same field"):
        model.model_validate({**body, old: value, new: value})


@each_renamed
def test_openapi_marks_the_old_name_as_deprecated(
    model: type[RequestModel], body: dict[str, Any], old: str, new: str, value: Any, schemas: dict[str, Any]
) -> None:
    properties = schemas[model.__name__]["properties"]
    assert properties[old]["deprecated"] is True
    assert new in properties[old]["description"]
    assert "deprecated" not in properties[new]


@each_renamed
def test_a_client_that_fills_in_defaults_sends_one_name(
    model: type[RequestModel], body: dict[str, Any], old: str, new: str, value: Any, schemas: dict[str, Any]
) -> None:
    properties = schemas[model.__name__]["properties"]
    filled = {name: found["default"] for name, found in properties.items() if "default" in found}
    assert old not in filled
    model.model_validate({**filled, **body})


def test_responses_have_the_new_names_only(schemas: dict[str, Any]) -> None:
    responses: dict[str, type[RequestModel]] = {
        "ClusterResponse": ClusterCreate,
        "DeploymentResponse": DeploymentCreate,
    }
    for response, request in responses.items():
        names = schemas[response]["properties"].keys()
        assert names >= set(request.old_names.values())
        assert names.isdisjoint(request.old_names)


def _request_models(model: type[RequestModel]) -> Iterator[type[RequestModel]]:
    """The requests without a subclass: those that a route takes."""
    children = model.__subclasses__()
    if not children:
        yield model
    for child in children:
        yield from _request_models(child)
