"""The fields of a file: their names, and the type of each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from yaml.nodes import Node

from hypervisor.cli.spec_file import values
from hypervisor.client.models import DeploymentSpec

SHORT_NAMES = {
    "image": "docker_image",
    "cpu": "required_cpu_cores",
    "ram": "required_ram_gb",
    "gpu": "required_gpu_count",
}
"""Short keys of a YAML file, with the API field names."""
OLD_NAMES = {"placement": "replica_placement"}
"""Old API field names, with the new ones."""

Converter = Callable[[Node, str], Any]

_BY_TYPE: Mapping[Any, Converter] = {
    str: values.text,
    int: values.whole,
    float: values.number,
    bool: values.boolean,
    list[str]: values.texts,
    list[int]: values.wholes,
    dict[str, str]: values.text_mapping,
}
_BY_NAME: Mapping[str, Converter] = {
    "command": values.command,
    "env": values.environment,
    "depends_on": values.dependencies,
    "priority": values.priority,
    "gpu_model": values.text,
    "cluster": values.text,
    "organization": values.text,
}
"""Fields whose request has another form than the response, and fields of a request only."""


def _converter(kind: Any) -> Converter:
    """The converter for a type or for an optional type. Raises KeyError for a type without one."""
    kinds = [one for one in get_args(kind) if one is not NoneType] if NoneType in get_args(kind) else [kind]
    return _BY_TYPE[kinds[0]]


CONVERTERS: Mapping[str, Converter] = {
    **{
        name: _converter(kind)
        for name, kind in get_type_hints(DeploymentSpec).items()
        if name not in _BY_NAME
    },
    **_BY_NAME,
}
"""The converter of each field, by the name of the API."""


def field_of(key: str) -> str:
    """The name of the field that a key means."""
    return SHORT_NAMES.get(key) or OLD_NAMES.get(key) or key


def unknown(key: str, more: tuple[str, ...] = ()) -> str:
    """The refusal of a key that is no field, with the nearest one. `more` are further keys of this place."""
    known = [*CONVERTERS, *SHORT_NAMES, *more]
    near = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1)
    return f"there is no field {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
