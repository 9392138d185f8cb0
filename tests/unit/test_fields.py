"""No field of a request is lost between row, response, SDK, runtime and command line.

The tables have the exceptions, each with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from hypervisor.cli.commands import deploy_flags
from hypervisor.client import models
from hypervisor.clusters import fields as cluster_fields
from hypervisor.clusters.responses import ClusterResponse, NodeResponse
from hypervisor.clusters.schemas import ClusterCreate, ClusterUpdate, NodeCreate
from hypervisor.deployments.schemas.requests import DeploymentCreate, DeploymentUpdate
from hypervisor.deployments.schemas.responses import DeploymentResponse
from hypervisor.deployments.spec.fields import CONVERTED
from hypervisor.runtimes.protocol import API_NAMES, LaunchSpec
from hypervisor.store.base import Base
from hypervisor.store.columns import stored_fields
from hypervisor.store.tables import Cluster, Deployment, Node

STORED: list[tuple[type[BaseModel], type[Base], Mapping[str, str]]] = [
    (DeploymentCreate, Deployment, CONVERTED),
    (DeploymentUpdate, Deployment, CONVERTED),
    (ClusterCreate, Cluster, cluster_fields.SIZES),
    (ClusterUpdate, Cluster, cluster_fields.SIZES),
    (NodeCreate, Node, cluster_fields.NODE_CONVERTED),
]
SHOWN: list[tuple[type[BaseModel], type[BaseModel], Mapping[str, str]]] = [
    (DeploymentCreate, DeploymentResponse, {"gpu_model": "is one of gpu_models"}),
    (DeploymentUpdate, DeploymentResponse, {"gpu_model": "is one of gpu_models"}),
    (ClusterCreate, ClusterResponse, {"gpu_model": "of the node", "labels": "of the node"}),
    (ClusterUpdate, ClusterResponse, {}),
    (NodeCreate, NodeResponse, {"count": "makes as many nodes"}),
]
NOT_FOR_A_RUNTIME = {
    "organization_id": "the owner",
    "cluster_id": "chooses the runtime",
    "name": "for people",
    "kind": "the lifecycle concludes ends by it",
    "priority": "orders the queue",
    "depends_on": "BLOCKED until then",
    "on_failure": "the lifecycle of dependents",
    "preemptible": "the scheduler",
    "min_runtime_seconds": "the scheduler",
    "max_runtime_seconds": "the reconciler stops it",
    "grace_period_seconds": "an argument of `Runtime.stop`",
    "restart_policy": "the lifecycle",
    "max_retries": "the lifecycle",
    "retry_exit_codes": "the lifecycle",
    "node_selector": "the scheduler chooses the node",
    "gpu_models": "the scheduler chooses the node",
    "gpu_model": "is one of gpu_models",
    "replicas": "one instance for each",
    "replica_placement": "the scheduler chooses the nodes",
    "gang_timeout_seconds": "the reconciler stops it",
    "required_cpu_cores": "`LaunchSpec.resources`",
    "required_ram_gb": "`LaunchSpec.resources`",
    "required_gpu_count": "`LaunchSpec.resources`",
}
OF_THE_ATTEMPT = {"instance", "resources", "gpu_indices", "gpu_milli"}
NO_OPTION_OF_THE_NAME = {
    "organization_id": "--org",
    "cluster_id": "--cluster",
    "name": "the argument",
    "command": "the arguments after --",
    "kind": "--job",
    "depends_on": "--after",
    "preemptible": "--never-preempt",
    "retry_exit_codes": "--retry-on",
    "replica_placement": "--spread",
    "labels": "--label",
    "gpu_model": "--gpu-model may be repeated",
}


def with_extra_field(model: type[BaseModel]) -> type[BaseModel]:
    """The model with a field that was added to the schema only."""
    extra: Any = {"forgotten": (int | None, None)}
    return create_model("More", __base__=model, **extra)


def lost(model: type[BaseModel], present: Collection[str], elsewhere: Mapping[str, str]) -> set[str]:
    """The fields of a request that are neither in `present` nor declared in `elsewhere`."""
    return model.model_fields.keys() - set(present) - elsewhere.keys()


@pytest.mark.parametrize(("model", "table", "converted"), STORED, ids=[entry[0].__name__ for entry in STORED])
def test_a_field_without_a_column_stops_the_server_at_its_start(
    model: type[BaseModel], table: type[Base], converted: Mapping[str, str]
) -> None:
    stored_fields(table, model.model_fields, converted)
    with pytest.raises(TypeError, match="forgotten: add a column of this name"):
        stored_fields(table, with_extra_field(model).model_fields, converted)


@pytest.mark.parametrize(
    ("model", "response", "elsewhere"), SHOWN, ids=[entry[0].__name__ for entry in SHOWN]
)
def test_responses_show_every_field(
    model: type[BaseModel], response: type[BaseModel], elsewhere: Mapping[str, str]
) -> None:
    assert lost(model, response.model_fields, elsewhere) == set()
    assert lost(with_extra_field(model), response.model_fields, elsewhere) == {"forgotten"}


@pytest.mark.parametrize(
    ("model", "response"),
    [
        (models.Deployment, DeploymentResponse),
        (models.Cluster, ClusterResponse),
        (models.Node, NodeResponse),
    ],
    ids=["deployment", "cluster", "node"],
)
def test_the_sdk_has_the_fields_of_responses(model: Any, response: type[BaseModel]) -> None:
    assert set(model.__annotations__) == response.model_fields.keys()


def test_the_sdk_has_the_fields_of_requests() -> None:
    requested = DeploymentCreate.model_fields.keys() - {"gpu_model"}
    assert set(models.DeploymentSpec.__annotations__) == requested


def test_every_field_reaches_the_runtime_or_has_a_reason() -> None:
    launched = {API_NAMES.get(field.name, field.name) for field in fields(LaunchSpec)} - OF_THE_ATTEMPT
    assert lost(DeploymentCreate, launched, NOT_FOR_A_RUNTIME) == set()
    assert lost(with_extra_field(DeploymentCreate), launched, NOT_FOR_A_RUNTIME) == {"forgotten"}
    assert launched.isdisjoint(NOT_FOR_A_RUNTIME)
    assert launched <= DeploymentCreate.model_fields.keys()


def test_every_field_has_an_option() -> None:
    options = {parameter.name for parameter in deploy_flags.parameters()}
    assert lost(DeploymentCreate, options, NO_OPTION_OF_THE_NAME) == set()
    assert lost(with_extra_field(DeploymentCreate), options, NO_OPTION_OF_THE_NAME) == {"forgotten"}


def test_an_update_can_change_what_a_submit_sets() -> None:
    fixed = {"organization_id", "cluster_id", "kind"}
    assert DeploymentUpdate.model_fields.keys() == DeploymentCreate.model_fields.keys() - fixed
