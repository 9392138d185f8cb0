"""The server's refusals of fields of a deployment file, as lines with their places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypervisor.cli.core.failures import FileFaults, field_errors
from hypervisor.cli.spec_file.reader import SpecFile
from hypervisor.client import ApiError


@contextmanager
def placed_faults(file: SpecFile | None, index: int = 0) -> Iterator[None]:
    """Raise FileFaults for an ApiError that names fields. `index` is that of a request outside a batch."""
    try:
        yield
    except ApiError as error:
        errors = field_errors(error)
        if file is None or error.code != "invalid_request" or not errors:
            raise
        lines = [_fault(file, index, path, reason) for path, reason in errors]
        raise FileFaults("\n".join(lines)) from None


def _fault(file: SpecFile, index: int, path: list[str | int], reason: str) -> str:
    if path[:1] == ["deployments"] and len(path) > 1:
        return file.fault(int(path[1]), path[2:], reason)
    return file.fault(index, path, reason)
