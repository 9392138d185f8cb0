"""YAML documents as nodes that keep spelling and line, and mappings whose keys occur once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from hypervisor.cli.spec_file.refusal import Refused
from hypervisor.cli.spec_file.source import line_at

MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_NULL, _MERGE, _TEXT = f"{_TAG}null", f"{_TAG}merge", f"{_TAG}str"
_ALLOWED_TAGS = (None, "!", _TEXT, f"{_TAG}seq", f"{_TAG}map")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping as it is written, with its line and its value."""

    key: str
    line: int
    value: Node


Entries = Mapping[str, Entry]
"""The entries of a mapping by the name of the field."""


def documents(text: str) -> list[Node]:
    """The documents of a file; an empty one is left out. Raises Refused for what is not YAML."""
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except ReaderError as error:
        code = f"{ord(error.character):04x}" if isinstance(error.character, str) else error.character
        line = line_at(text, error.position)
        raise Refused(line, f"the character U+{code} cannot stand in a YAML file") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    return [node for node in nodes if node is not None and not is_null(node)]


def line_of(node: Node) -> int:
    """The line of a node, from 1."""
    return int(node.start_mark.line) + 1


def is_null(node: Node) -> bool:
    """Whether this is `~`, `null` or nothing at all."""
    return bool(node.tag == _NULL)


def kind_of(node: Node) -> str:
    """What a node is, for a sentence."""
    if isinstance(node, ScalarNode):
        return "null" if is_null(node) else repr(node.value)
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def entries(node: MappingNode, field_of: Callable[[str], str] = str) -> Entries:
    """The entries of a mapping by `field_of` its keys, with those that `<<` merges into it.

    Raises Refused where a field occurs twice.
    """
    return _entries(node, field_of, {}, 0)


def _entries(
    node: MappingNode, field_of: Callable[[str], str], done: dict[int, Entries], depth: int
) -> Entries:
    if depth > MAX_DEPTH:
        raise Refused(line_of(node), f"<< is nested more than {MAX_DEPTH} levels deep, or merges itself")
    if id(node) in done:
        return done[id(node)]
    own: dict[str, Entry] = {}
    merges: dict[str, Entry] = {}
    for key, value in node.value:
        entry = Entry(_key(key), line_of(key), value)
        _add(entry, *((merges, "<<") if key.tag == _MERGE else (own, field_of(entry.key))))
    merged: dict[str, Entry] = {}
    for entry in merges.values():
        for source in reversed(_merge_sources(entry)):
            merged |= _entries(source, field_of, done, depth + 1)
    done[id(node)] = {**merged, **own}
    return done[id(node)]


def _add(entry: Entry, found: dict[str, Entry], field: str) -> None:
    first = found.setdefault(field, entry)
    if first is entry:
        return
    lines = f"lines {first.line} and {entry.line}" if first.line < entry.line else f"line {entry.line}"
    if first.key == entry.key:
        raise Refused(entry.line, f"{entry.key!r} is given twice, in {lines}: keep one")
    raise Refused(entry.line, f"{first.key!r} and {entry.key!r}, in {lines}, are the same field: keep one")


def _key(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        raise Refused(line_of(node), f"a key must be a text, not {kind_of(node)}")
    return str(node.value)


def _merge_sources(entry: Entry) -> list[MappingNode]:
    sources = entry.value.value if isinstance(entry.value, SequenceNode) else [entry.value]
    for source in sources:
        if not isinstance(source, MappingNode):
            raise Refused(entry.line, f"<< takes mappings, not {kind_of(source)}")
    return list(sources)


class _Loader(yaml.SafeLoader):
    """Composes nodes. It refuses tags, because no field takes them, and deep nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        line = event.start_mark.line + 1
        if tag not in _ALLOWED_TAGS:
            raise Refused(
                line, f"the tag {tag.replace(_TAG, '!!')} has no meaning here: write the value itself"
            )
        if self._depth > MAX_DEPTH:
            raise Refused(line, f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _syntax_error(error: yaml.MarkedYAMLError) -> Refused:
    """For an unclosed quote or bracket the place where it opens, else the place of the problem."""
    problem, context = error.problem or "unreadable", error.context or ""
    if "quoted scalar" in context and error.context_mark is not None and "end of stream" in problem:
        return Refused(error.context_mark.line + 1, "not valid YAML: a quote opens here and is never closed")
    mark = error.problem_mark or error.context_mark
    hint = ": indent with spaces" if "'\\t'" in problem else ""
    where = f", {context} in line {error.context_mark.line + 1}" if context and error.context_mark else ""
    return Refused(mark.line + 1 if mark else None, f"not valid YAML: {problem}{hint}{where}")
