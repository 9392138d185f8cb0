"""Requests and responses about sharing a cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hypervisor.api.schema import MAX_ID, ResponseModel
from hypervisor.clusters.field_types import CpuCores, RamGb, StrictRequest
from hypervisor.clusters.responses import Amounts
from hypervisor.kernel.resources import Resources

MAX_SHARED_GPUS = 640_000
ShareState = Literal["offered", "accepted", "declined", "withdrawn"]
Gpus = Annotated[float, Field(ge=0, le=MAX_SHARED_GPUS, allow_inf_nan=False, description="Devices.")]
Weight = Annotated[
    float,
    Field(
        ge=0.001,
        le=1000,
        description="Share of the capacity without a guarantee, relative to the other weights.",
    ),
]


class Bounds(StrictRequest):
    """An amount of each resource; a missing one is not set."""

    cpu_cores: CpuCores | None = None
    ram_gb: RamGb | None = None
    gpu_count: Gpus | None = None

    @property
    def amounts(self) -> tuple[int | None, int | None, int | None]:
        """Milli-CPU, MiB and milli-GPU; None for an amount that is not set."""
        amounts = Resources.from_edge(
            cpu_cores=self.cpu_cores or 0, ram_gb=self.ram_gb or 0, gpu_count=self.gpu_count or 0
        )
        return (
            None if self.cpu_cores is None else amounts.cpu_milli,
            None if self.ram_gb is None else amounts.ram_mib,
            None if self.gpu_count is None else amounts.gpu_milli,
        )

    def filled(self, capacity: Resources) -> Resources:
        """The amounts as a guarantee.

        A missing amount becomes the largest given fraction of the cluster, so that guaranteed GPUs come with
        the CPU and RAM to use them.
        """
        whole = (capacity.cpu_milli, capacity.ram_mib, capacity.gpu_milli)
        parts = [
            amount / total for amount, total in zip(self.amounts, whole, strict=True) if amount and total
        ]
        part = min(1.0, max(parts, default=0.0))
        amounts = zip(self.amounts, whole, strict=True)
        return Resources(*(int(total * part) if amount is None else amount for amount, total in amounts))


class ShareTerms(StrictRequest):
    guaranteed: Bounds | None = Field(
        default=None, description="Guaranteed to the organization on demand; lent to others while it is idle."
    )
    limit: Bounds | None = Field(default=None, description="Upper bound; default: no limit.")
    weight: Weight | None = None


class ShareOffer(ShareTerms):
    organization_id: int = Field(ge=1, le=MAX_ID)


class ShareUpdate(ShareTerms):
    """Only given fields change."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give guaranteed, limit or weight")
        return self


class LimitAmounts(ResponseModel):
    cpu_cores: float | None
    ram_gb: float | None
    gpu_count: float | None


class ShareResponse(ResponseModel):
    """`used` is the organization's present use, `waiting` the number of its queued deployments."""

    cluster_id: int
    cluster_name: str
    organization_id: int
    state: ShareState
    guaranteed: Amounts
    limit: LimitAmounts
    weight: float
    used: Amounts
    waiting: int
    offered_at: datetime
    answered_at: datetime | None
