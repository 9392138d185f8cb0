"""Finds out whether an exception came from a response that no Hypervisor server sends."""

from __future__ import annotations

from collections.abc import Iterator
from traceback import walk_tb

from hypervisor.client import UnexpectedResponse
from hypervisor.client.declared import violation
from hypervisor.client.records import Record


def unexpected_response(error: Exception) -> UnexpectedResponse | None:
    """The fault of a response that the failed code worked on.

    None when all its responses are as declared: then the fault is in this program.
    """
    for record in _records_at(error):
        if (fault := violation(record)) is not None:
            return UnexpectedResponse(record.url, fault)
    return None


def _records_at(error: Exception) -> Iterator[Record]:
    """The objects of responses in the variables of the functions that the exception left."""
    for frame, _line in walk_tb(error.__traceback__):
        for value in list(frame.f_locals.values()):
            parts = value if isinstance(value, (list, tuple)) else [value]
            yield from (part for part in parts if isinstance(part, Record))
