"""Field types of deployments, with the rules for values that reach a runtime."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from hypervisor.kernel.command import in_shell, unclosed_quote
from hypervisor.kernel.exec_limits import MAX_STRING_BYTES, check_command, check_shell_text
from hypervisor.kernel.priority import MAX_PRIORITY, MIN_PRIORITY, parse_priority
from hypervisor.kernel.resources import MAX_EDGE_VALUE, MILLI, Resources, check_gpu_request
from hypervisor.kernel.text import has_control_characters

MAX_IMAGE = 512
MAX_COMMAND = 1000
MAX_ENV = 500
MAX_PORTS = 64
MAX_EXIT_CODES = 64
MAX_DIRECTORY = 1024
MAX_REPLICAS = 64
MAX_GANG_TIMEOUT = 86_400

# Reference grammar of the OCI distribution specification: [domain/]path[:tag][@digest].
_DOMAIN_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_IMAGE = re.compile(rf"(?:{_DOMAIN}/)?{_PATH_PART}(?:/{_PATH_PART})*(?::{_TAG})?(?:@{_DIGEST})?")


def _image(text: str) -> str:
    if _IMAGE.fullmatch(text) is None:
        raise ValueError(
            'must be an image name like "python:3.12" or "registry.example.com/team/app@sha256:..."'
        )
    return text


def _as_argv(value: Any) -> Any:
    """The arguments of a command that may be a text for the shell."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("must not be empty; leave it out for the image's own command")
    if value.startswith(("-", "+")):
        raise ValueError("must not begin with - or +, which a shell reads as an option")
    if (line := unclosed_quote(value)) is not None:
        raise ValueError(f"the quote that opens in line {line + 1} is never closed")
    check_shell_text(value)
    return in_shell(value)


def _command(argv: list[str]) -> list[str]:
    if argv and not argv[0].strip():
        raise ValueError("the first part is the program and must not be empty")
    check_command(argv)
    return argv


def _gpu_request(value: float) -> float:
    check_gpu_request(Resources.from_edge(cpu_cores=0, ram_gb=0, gpu_count=value).gpu_milli)
    return value


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"must be LOW, MEDIUM, HIGH, CRITICAL or a whole number from 0 to {MAX_PRIORITY}")
    return parse_priority(value)


def _distinct(ports: list[int]) -> list[int]:
    if len(set(ports)) < len(ports):
        raise ValueError("a port is given twice")
    return ports


def _one_line(text: str) -> str:
    if has_control_characters(text):
        raise ValueError("must not contain control characters or line breaks")
    return text


def _directory(text: str) -> str:
    parts = text.split("/")
    if ".." in parts:
        raise ValueError('must be an absolute path without "..", such as /workspace')
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, such as /workspace")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _no_password(text: str) -> str:
    if "://" in text and urlsplit(text).password:
        raise ValueError("must not contain a password: every member of the organization can read it")
    return text


def _sorted(codes: list[int]) -> list[int]:
    return sorted(set(codes))


Image = Annotated[str, Field(max_length=MAX_IMAGE), AfterValidator(_image)]
Command = Annotated[
    list[str],
    Field(
        max_length=MAX_COMMAND,
        description='The program and its arguments, for example ["python", "-V"]; or a text, which '
        "/bin/sh -c runs as written. Responses have the arguments in both cases, with the form in "
        "`command_form`.",
    ),
    BeforeValidator(_as_argv, json_schema_input_type=list[str] | str),
    AfterValidator(_command),
]
GpuRequest = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_EDGE_VALUE // MILLI,
        allow_inf_nan=False,
        description="A fraction of one device, from 0.1 on, or whole devices.",
    ),
    AfterValidator(_gpu_request),
]
Priority = Annotated[
    int,
    BeforeValidator(_priority),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": ["LOW", "MEDIUM", "HIGH", "CRITICAL"]},
                {"type": "integer", "minimum": MIN_PRIORITY, "maximum": MAX_PRIORITY},
            ],
            "default": 500,
            "description": "LOW (100), MEDIUM (500), HIGH (750), CRITICAL (1000) or a number from 0 to 1000.",
        }
    ),
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
EnvText = Annotated[
    str,
    Field(
        max_length=MAX_STRING_BYTES,
        description=f"At most {MAX_STRING_BYTES:,} bytes of UTF-8, with the name and the equals sign.",
    ),
]
Port = Annotated[int, Field(ge=1, le=65_535)]
Ports = Annotated[list[Port], Field(max_length=MAX_PORTS), AfterValidator(_distinct)]
ExitCodes = Annotated[
    list[Annotated[int, Field(ge=1, le=255)]],
    Field(
        max_length=MAX_EXIT_CODES,
        description="Retry only these exit codes. 128 + n is an end by signal n (1 to 64); 137 is also out "
        "of memory. The default of restart_policy is then on-failure.",
    ),
    AfterValidator(_sorted),
]
WorkingDir = Annotated[
    str,
    Field(
        max_length=MAX_DIRECTORY,
        description="The directory in which the command starts, in the container or on the machine (runtime "
        "process). It must exist.",
    ),
    AfterValidator(_one_line),
    AfterValidator(_directory),
]
Message = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]
CheckpointPath = Annotated[
    str,
    Field(min_length=1, max_length=2048, description="A path or URI for the next attempt."),
    AfterValidator(_one_line),
    AfterValidator(_no_password),
]
Replicas = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_REPLICAS,
        description="Number of replicas that start together or not at all, each with these resources.",
    ),
]
ReplicaPlacement = Annotated[
    Literal["pack", "spread"],
    Field(description="pack: replicas on as few nodes as possible. spread: on as many as possible."),
]
GangTimeout = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_GANG_TIMEOUT,
        description="Seconds until all replicas must run; after that all stop and are queued again.",
    ),
]
