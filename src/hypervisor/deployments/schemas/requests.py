"""Requests about deployments."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hypervisor.api.schema import MAX_BIG_ID, MAX_ID, Name, not_a_text
from hypervisor.clusters.field_types import CpuCores, GpuModel, Labels, RamGb, Seconds, StrictRequest
from hypervisor.deployments.schemas.field_types import (
    MAX_ENV,
    CheckpointPath,
    Command,
    EnvName,
    EnvText,
    ExitCodes,
    GangTimeout,
    GpuRequest,
    Image,
    Message,
    Ports,
    Priority,
    ReplicaPlacement,
    Replicas,
    WorkingDir,
)
from hypervisor.kernel.exec_limits import check_variables
from hypervisor.kernel.priority import DEFAULT_PRIORITY
from hypervisor.kernel.resources import Resources

MAX_BATCH = 1000
MAX_DEPENDENCIES = 100
MAX_GRACE = 3600
DEFAULT_RETRIES = 3

Kind = Literal["service", "job"]
RestartPolicy = Literal["never", "on-failure", "always"]
OnFailure = Literal["cancel", "hold"]
DeploymentId = Annotated[int, Field(ge=1, le=MAX_BIG_ID)]
Reference = DeploymentId | Name


class SecretValue(StrictRequest):
    """A value of the environment. A secret value is encrypted on arrival and never shown."""

    value: EnvText
    secret: bool = False


def text_of(value: str | SecretValue) -> str:
    """The text of a value of an environment, secret or not."""
    return value.value if isinstance(value, SecretValue) else value


class DependencyRequest(StrictRequest):
    """A dependency by id, or by name: the newest deployment of this name in the organization."""

    deployment: Reference
    condition: Literal["succeeded", "running"] = "succeeded"


def _env_value(value: object) -> object:
    """Refuse with one sentence what both alternatives of the union refuse, each with its own."""
    if isinstance(value, (str, dict, SecretValue)):
        return value
    raise ValueError(not_a_text(value))


def _env(values: dict[str, str | SecretValue]) -> dict[str, str | SecretValue]:
    check_variables({name: text_of(value) for name, value in values.items()})
    return values


EnvValue = Annotated[EnvText | SecretValue, BeforeValidator(_env_value)]
Env = Annotated[dict[EnvName, EnvValue], Field(max_length=MAX_ENV), AfterValidator(_env)]
DependsOn = Annotated[list[Reference | DependencyRequest], Field(max_length=MAX_DEPENDENCIES)]
GpuModels = Annotated[list[GpuModel], Field(max_length=32)]


class DeploymentFields(StrictRequest):
    """The fields of a submit that an update can change; None means "not given"."""

    old_names: ClassVar = {"placement": "replica_placement"}

    docker_image: Image | None = None
    command: Command | None = None
    env: Env | None = None
    ports: Ports | None = None
    working_dir: WorkingDir | None = None
    required_cpu_cores: CpuCores | None = None
    required_ram_gb: RamGb | None = None
    required_gpu_count: GpuRequest | None = None
    priority: Priority | None = None
    depends_on: DependsOn | None = None
    on_failure: OnFailure | None = None
    preemptible: bool | None = None
    min_runtime_seconds: Seconds | None = None
    max_runtime_seconds: Annotated[Seconds, Field(ge=1)] | None = None
    grace_period_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE)] | None = None
    restart_policy: RestartPolicy | None = None
    max_retries: (
        Annotated[
            int,
            Field(
                ge=0,
                le=1000,
                description="Number of restarts. No effect with restart_policy never, the default of a job.",
            ),
        ]
        | None
    ) = None
    retry_exit_codes: ExitCodes | None = None
    labels: Labels | None = None
    node_selector: Labels | None = None
    gpu_models: GpuModels | None = None
    gpu_model: GpuModel | None = None
    replicas: Replicas | None = None
    replica_placement: ReplicaPlacement | None = None
    gang_timeout_seconds: GangTimeout | None = None
    read_only_root: bool | None = None

    @property
    def all_gpu_models(self) -> list[str]:
        """`gpu_models` and `gpu_model` together, sorted, without duplicates."""
        single = [self.gpu_model] if self.gpu_model is not None else []
        return sorted({*(self.gpu_models or ()), *single})

    def plain_environment(self) -> dict[str, str]:
        """The values of `env` as the workload gets them."""
        return {name: text_of(value) for name, value in (self.env or {}).items()}

    def dependencies(self) -> list[DependencyRequest]:
        """`depends_on` as a list of `DependencyRequest`."""
        return [
            item if isinstance(item, DependencyRequest) else DependencyRequest(deployment=item)
            for item in self.depends_on or ()
        ]


class DeploymentCreate(DeploymentFields):
    """A workload to run. The runtime docker needs `docker_image`, the runtime process needs `command`."""

    organization_id: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ID,
        description="Optional where cluster_id or the caller's only membership determines it.",
    )
    cluster_id: int | None = Field(
        default=None, ge=1, le=MAX_ID, description="Optional where the organization has one cluster."
    )
    name: Name
    kind: Kind = "service"
    required_cpu_cores: CpuCores = 1
    required_ram_gb: RamGb = 1
    required_gpu_count: GpuRequest = 0
    priority: Priority = DEFAULT_PRIORITY
    on_failure: OnFailure = "cancel"
    preemptible: bool = True
    min_runtime_seconds: Seconds = 0
    grace_period_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE)] = 10
    replicas: Replicas = 1
    replica_placement: ReplicaPlacement = "pack"
    gang_timeout_seconds: GangTimeout = 300
    read_only_root: bool = False

    @model_validator(mode="after")
    def _retries_have_a_policy(self) -> Self:
        if self.retry_exit_codes and self.restart_policy == "never":
            raise ValueError("retry_exit_codes needs restart_policy on-failure or always, not never")
        return self

    @property
    def resources(self) -> Resources:
        return Resources.from_edge(
            cpu_cores=self.required_cpu_cores,
            ram_gb=self.required_ram_gb,
            gpu_count=self.required_gpu_count,
        )

    @property
    def chosen_restart_policy(self) -> RestartPolicy:
        if self.restart_policy is not None:
            return self.restart_policy
        if self.retry_exit_codes:
            return "on-failure"
        return "never" if self.kind == "job" else "on-failure"

    @property
    def chosen_max_retries(self) -> int:
        if self.max_retries is not None:
            return self.max_retries
        return 0 if self.chosen_restart_policy == "never" else DEFAULT_RETRIES


class DeploymentBatch(StrictRequest):
    """Up to 1,000 deployments of one organization. All are created or none."""

    deployments: list[DeploymentCreate] = Field(min_length=1, max_length=MAX_BATCH)


class DeploymentUpdate(DeploymentFields):
    """Only given fields change. A live deployment accepts priority, labels, name and max_retries."""

    name: Name | None = None


class CheckpointReport(StrictRequest):
    """Progress that an attempt has saved. Lost work counts from the last report. All fields are optional."""

    progress: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    step: Annotated[int, Field(ge=0, le=MAX_BIG_ID)] | None = None
    message: Message | None = None
    path: CheckpointPath | None = None
