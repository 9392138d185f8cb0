"""Request bodies as JSON. Values that JSON would change or cannot hold are refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from hypervisor.client.errors import ClientError

HEADERS = {"Content-Type": "application/json"}
MAX_DEPTH = 50


def encode(body: object) -> bytes:
    """The body in UTF-8. Raises ClientError with the path of a value that is not JSON, such as `env.D`."""
    for path, reason in _faults(body, "", 0):
        raise ClientError(f"{path.removeprefix('.') or 'the body'} {reason}")
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def surrogate_in(text: str) -> str | None:
    """The first character that UTF-8 cannot encode, printable; None without one.

    A byte of an argument that is not UTF-8 is a surrogate (PEP 383), shown as `\\xff`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    return None


def _faults(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The path and the reason of each value that is refused."""
    if depth > MAX_DEPTH:
        yield path, "is nested too deeply, or contains itself"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _key_faults(key, path)
            yield from _faults(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _faults(item, f"{path}[{index}]", depth + 1)
    elif (reason := _scalar_fault(value)) is not None:
        yield path, reason


def _key_faults(key: object, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(key, str):
        yield path, f"has the key {key!r}, which is not a str: pass the text that is meant"
    elif (reason := _scalar_fault(key)) is not None:
        yield path, f"has a key that {reason}"


def _scalar_fault(value: object) -> str | None:
    if isinstance(value, str):
        character = surrogate_in(value)
        return None if character is None else f"contains {character}, which is not valid UTF-8"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which JSON does not have"
    if isinstance(value, (int, float, type(None))):
        return None
    kind = type(value).__name__
    if isinstance(value, (Mapping, Sequence, Enum)):
        return f"is a {kind}, which JSON does not have: pass a dict, a list or a str"
    return f"is a {kind}, which JSON does not have: pass the text that is meant"
