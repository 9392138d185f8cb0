"""Renamed request fields: for one version the old name is accepted, and OpenAPI marks it as deprecated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_new_names(body: Any, old_names: Mapping[str, str]) -> Any:
    """The request body with each old name replaced by its new one; `old_names` maps old to new.

    Raises ValueError where a body has both names of a field.
    """
    if not isinstance(body, dict) or old_names.keys().isdisjoint(body):
        return body
    renamed = dict(body)
    for old, new in old_names.items():
        if old in renamed and new in renamed:
            raise ValueError(f"give {new} only: {old} is the old name of the same field")
        if old in renamed:
            renamed[new] = renamed.pop(old)
    return renamed


def describe_old_names(schema: dict[str, Any], old_names: Mapping[str, str]) -> None:
    """Add the old names to the JSON schema of a request, as deprecated copies of the new fields.

    They have no default: a client that fills in defaults would send both names.
    """
    properties = schema["properties"]
    for old, new in old_names.items():
        copy = {key: value for key, value in properties[new].items() if key != "default"}
        properties[old] = {**copy, "deprecated": True, "description": f"Old name of `{new}`."}
