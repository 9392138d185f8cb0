"""Field types of requests about capacity, with limits that every database and runtime supports."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from hypervisor.api.schema import RequestModel
from hypervisor.kernel.resources import MAX_EDGE_VALUE, MIB_PER_GIB, MILLI
from hypervisor.kernel.text import has_control_characters

MAX_LABELS = 64
MAX_SECONDS = 10 * 365 * 24 * 3600
MAX_GPUS = 64


class StrictRequest(RequestModel):
    """A request without type coercion: neither a text nor true is accepted as a number."""

    model_config = ConfigDict(strict=True)


def _one_line(text: str) -> str:
    if has_control_characters(text):
        raise ValueError("must not contain control characters or line breaks")
    return text


def _printable(text: str) -> str:
    if has_control_characters(text.replace("\n", "")):
        raise ValueError("must not contain control characters other than line breaks")
    return text


CpuCores = Annotated[
    float,
    Field(ge=0, le=MAX_EDGE_VALUE // MILLI, allow_inf_nan=False, description="Cores; 0.5 is half a core."),
]
RamGb = Annotated[
    float, Field(ge=0, le=MAX_EDGE_VALUE // MIB_PER_GIB, allow_inf_nan=False, description="GiB of memory.")
]
GpuDevices = Annotated[int, Field(ge=0, le=MAX_GPUS, description="Number of whole devices of the node.")]
GpuModel = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_one_line),
    Field(description='Any name, for example "A100".'),
]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=63), AfterValidator(_one_line)]
LabelValue = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
Labels = Annotated[
    dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS, description="At most 64 pairs of texts.")
]
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS)]
PreemptionWindow = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_SECONDS,
        description="Window of preemption_budget, in seconds. For no protection set preemption_budget to 0.",
    ),
]
