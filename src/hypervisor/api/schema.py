"""Base classes and field types of requests and responses.

Requests refuse unknown fields, and text with NUL or a lone surrogate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hypervisor.api.old_names import describe_old_names, with_new_names
from hypervisor.kernel.text import has_control_characters, unsafe_reason

MAX_ID = 2**31 - 1
MAX_BIG_ID = 2**63 - 1
_LONGEST_SHOWN = 40


class RequestModel(BaseModel):
    """A request body. Unknown fields are refused, so that no field is silently ignored."""

    model_config = ConfigDict(extra="forbid")
    old_names: ClassVar[Mapping[str, str]] = {}
    """Old names of fields, each with the new name. They are accepted for one version."""

    @model_validator(mode="before")
    @classmethod
    def _check_body(cls, value: Any) -> Any:
        # Once for the whole body, so that no field can be forgotten.
        reason = _unsafe_within(value)
        if reason is not None:
            raise ValueError(f"text {reason}")
        return with_new_names(value, cls.old_names)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        describe_old_names(handler.resolve_ref_schema(schema), cls.old_names)
        return schema


class ResponseModel(BaseModel):
    """A response body. It can be built from a table row."""

    model_config = ConfigDict(from_attributes=True)


def not_a_text(value: object) -> str:
    """Why a value of a JSON body is refused where a text is required."""
    if isinstance(value, list):
        return "must be a text, not a list"
    if isinstance(value, dict):
        return "must be a text, not an object"
    return f"must be a text, not {_shortened(json.dumps(value))}: write it in quotes"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _check_safe(text: str) -> str:
    reason = unsafe_reason(text)
    if reason is not None:
        raise ValueError(reason)
    return text


def _check_one_line(text: str) -> str:
    if has_control_characters(text):
        raise ValueError("must not contain control characters or line breaks")
    return text


SafeStr = Annotated[str, AfterValidator(_check_safe)]
"""Text that every database can store. Use it for path and query parameters too."""

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_check_safe),
    AfterValidator(_check_one_line),
]
"""A display name: one line of 1 to 100 characters, without spaces around it."""

OrganizationId = Annotated[int, Path(ge=1, le=MAX_ID, description="The organization's id.")]


def _unsafe_within(value: Any) -> str | None:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if reason := unsafe_reason(one):
                return reason
        elif isinstance(one, dict):
            pending += one
            pending += one.values()
        elif isinstance(one, list):
            pending += one
    return None
