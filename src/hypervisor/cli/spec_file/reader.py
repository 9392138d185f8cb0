"""Deployments of a file as fields of requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, Node, SequenceNode

from hypervisor.cli.core.failures import WrongUsage
from hypervisor.cli.core.old_flags import note_old_name
from hypervisor.cli.spec_file.budget import Budget
from hypervisor.cli.spec_file.fields import CONVERTERS, OLD_NAMES, field_of, unknown
from hypervisor.cli.spec_file.nodes import Entries, documents, entries, is_null, kind_of, line_of
from hypervisor.cli.spec_file.refusal import Refused
from hypervisor.cli.spec_file.source import read_text

_LIST = "deployments"


@dataclass(frozen=True, slots=True)
class SpecFile:
    """The deployments of a file as fields of requests, and where their fields are written."""

    path: str
    requests: list[dict[str, Any]]
    entries: list[Entries]

    def fault(self, index: int, location: Sequence[str | int], reason: str) -> str:
        """The line for a field that the server refuses, with its place and its name in the file."""
        key, *inner = [part for part in location if part != "[key]"] or [""]
        entry = self.entries[index].get(str(key))
        if entry is None:
            words = f"{key}: " if key else ""
            return f"{_place(self.path, self.entries[index]['name'].line)}{words}{reason}"
        node: Node | None = entry.value
        line, words = entry.line, entry.key
        for part in inner:
            words += f"[{part}]" if isinstance(part, int) else f".{part}"
            line, node = _inside(node, part, line)
        return f"{_place(self.path, line)}{words}: {reason}"


def read_file(path: str) -> SpecFile:
    """The deployments of a YAML file (`-` is stdin) with one or several documents.

    A document is a mapping, a list of mappings, or a mapping with the key `deployments`. Prints
    a note for each old name of a field. Raises WrongUsage, with the line, for any other document, for a file
    without deployments, and for one that cannot be read.
    """
    try:
        found = [one for document in documents(read_text(path)) for one in _deployments_in(document)]
        requests = _requests(found)
    except Refused as refusal:
        raise WrongUsage(_place(path, refusal.line) + refusal.reason) from None
    except OSError as error:
        raise WrongUsage(_place(path, None) + (error.strerror or str(error))) from None
    if not requests:
        raise WrongUsage(_place(path, None) + "no deployment in this file")
    keys = {entry.key for one in found for entry in one.values()}
    for old in sorted(OLD_NAMES.keys() & keys):
        note_old_name(old, OLD_NAMES[old])
    return SpecFile(path, requests, found)


def _inside(node: Node | None, part: str | int, line: int) -> tuple[int, Node | None]:
    """The line and the node of a part; the line of the whole where the part is not written."""
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return line_of(node.value[part]), node.value[part]
    if isinstance(node, MappingNode) and (entry := entries(node).get(str(part))):
        return entry.line, entry.value
    return line, None


def _place(path: str, line: int | None) -> str:
    name = "standard input" if path == "-" else path
    return f"{name}: " if line is None else f"{name}:{line}: "


def _deployments_in(document: Node) -> Iterator[Entries]:
    """The entries of each deployment; those of a mapping with `deployments` begin with its other entries."""
    if isinstance(document, SequenceNode):
        yield from (_with_name(line_of(item), _entries_of(item)) for item in document.value)
        return
    found = _entries_of(document, _LIST)
    listed = found.get(_LIST)
    if listed is None:
        yield _with_name(line_of(document), found)
        return
    defaults = {field: entry for field, entry in found.items() if field != _LIST}
    if is_null(listed.value):
        return
    if not isinstance(listed.value, SequenceNode):
        raise Refused(listed.line, f"{_LIST} must be a list of mappings, not {kind_of(listed.value)}")
    for item in listed.value.value:
        yield _with_name(line_of(item), {**defaults, **_entries_of(item)})


def _entries_of(node: Node, *more: str) -> Entries:
    if not isinstance(node, MappingNode):
        raise Refused(line_of(node), f"a deployment must be a mapping with a name, not {kind_of(node)}")
    found = entries(node, field_of)
    for field, entry in found.items():
        if field not in CONVERTERS and field not in more:
            raise Refused(entry.line, unknown(entry.key, more))
    return found


def _with_name(line: int, found: Entries) -> Entries:
    if "name" not in found or is_null(found["name"].value):
        raise Refused(line, "this deployment has no name")
    return found


def _requests(found: list[Entries]) -> list[dict[str, Any]]:
    budget, requests = Budget(), []
    for one in found:
        for entry in one.values():
            budget.take_written(entry.value)
        requests.append(_request(one))
        budget.take_converted(requests[-1], one["name"].line)
    return requests


def _request(found: Entries) -> dict[str, Any]:
    """The fields that have a value."""
    return {
        field: CONVERTERS[field](entry.value, entry.key)
        for field, entry in found.items()
        if not is_null(entry.value)
    }
