"""Values of fields from nodes: the type of the field decides, never the spelling."""

from __future__ import annotations

import math
import re
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hypervisor.cli.core.references import id_or_name
from hypervisor.cli.spec_file.nodes import Entries, entries, is_null, kind_of, line_of
from hypervisor.cli.spec_file.refusal import Refused
from hypervisor.kernel.command import unclosed_quote
from hypervisor.kernel.text import unsafe_reason

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
_BLOCK_STYLES = ("|", ">")


def text(node: Node, name: str) -> str:
    """A text as it is written. Nothing is an empty text. Raises Refused for null and for no text."""
    scalar = _scalar(node, name, "a text")
    value = _joined_surrogates(scalar.value)
    if is_null(node) and value:
        raise Refused(line_of(node), f'{name} is null: write "{value}" in quotes, or "" for an empty text')
    if (reason := unsafe_reason(value)) is not None:
        raise Refused(line_of(node), f"{name} {reason}")
    return value


def whole(node: Node, name: str) -> int:
    """A whole number in decimal digits. Raises Refused for any other spelling: 0644, 0x1F, 1_000, 12:30."""
    value = _unquoted(node, name, "a whole number")
    if _WHOLE.fullmatch(value) is None:
        raise Refused(line_of(node), f"{name} must be a whole number in decimal digits, not {_shown(value)}")
    return int(value)


def number(node: Node, name: str) -> int | float:
    """A finite decimal number. Raises Refused for any other spelling."""
    value = _unquoted(node, name, "a number")
    if _WHOLE.fullmatch(value):
        return int(value)
    if _NUMBER.fullmatch(value) is None or not math.isfinite(float(value)):
        raise Refused(line_of(node), f"{name} must be a decimal number, not {_shown(value)}")
    return float(value)


def boolean(node: Node, name: str) -> bool:
    """True or false, also as yes, no, on, off. Raises Refused for any other spelling."""
    value = _unquoted(node, name, "true or false").lower()
    if value not in _TRUE | _FALSE:
        raise Refused(line_of(node), f"{name} must be true or false, not {_shown(value)}")
    return value in _TRUE


def texts(node: Node, name: str) -> list[str]:
    return [text(item, f"{name}[{index}]") for index, item in enumerate(_items(node, name))]


def wholes(node: Node, name: str) -> list[int]:
    return [whole(item, f"{name}[{index}]") for index, item in enumerate(_items(node, name))]


def text_mapping(node: Node, name: str) -> dict[str, str]:
    return {key: text(entry.value, f"{name}.{key}") for key, entry in mapping(node, name).items()}


def environment(node: Node, name: str) -> dict[str, Any]:
    """Texts, and mappings of `value` and `secret`."""
    return {
        key: _environment_value(entry.value, f"{name}.{key}") for key, entry in mapping(node, name).items()
    }


def command(node: Node, name: str) -> str | list[str]:
    """A list of arguments, or a text for a shell. Raises Refused for a text with a quote that stays open."""
    if isinstance(node, SequenceNode):
        return texts(node, name)
    value = text(node, name)
    if (opened := unclosed_quote(value)) is not None:
        line = line_of(node) + opened + (isinstance(node, ScalarNode) and node.style in _BLOCK_STYLES)
        raise Refused(line, f"{name}: a quote opens here and is never closed, so no shell can run this text")
    return value


def priority(node: Node, name: str) -> int | str:
    """A number, or the name of a priority."""
    value = text(node, name)
    return whole(node, name) if _is_plain(node) and value[:1] in tuple("0123456789+-.") else value


def dependencies(node: Node, name: str) -> list[Any]:
    """Ids, names, and mappings of `deployment` and `condition`."""
    return [_dependency(item, f"{name}[{index}]") for index, item in enumerate(_items(node, name))]


def mapping(node: Node, name: str) -> Entries:
    """The entries of a mapping. Raises Refused for anything else."""
    if not isinstance(node, MappingNode):
        raise Refused(line_of(node), f"{name} must be a mapping such as {{KEY: value}}, not {kind_of(node)}")
    return entries(node)


def _dependency(node: Node, name: str) -> Any:
    if not isinstance(node, MappingNode):
        return _reference(node, name)
    found = _only(node, name, "deployment", "condition")
    if "deployment" not in found:
        raise Refused(line_of(node), f"{name} has no deployment")
    dependency: dict[str, Any] = {"deployment": _reference(found["deployment"].value, f"{name}.deployment")}
    if "condition" in found:
        dependency["condition"] = text(found["condition"].value, f"{name}.condition")
    return dependency


def _reference(node: Node, name: str) -> int | str:
    """An id if it is a plain decimal number, else a name."""
    value = text(node, name)
    return id_or_name(value) if _is_plain(node) else value


def _is_plain(node: Node) -> bool:
    """Whether a scalar is written without quotes."""
    return isinstance(node, ScalarNode) and node.style is None


def _environment_value(node: Node, name: str) -> Any:
    if not isinstance(node, MappingNode):
        return text(node, name)
    found = _only(node, name, "value", "secret")
    if "value" not in found:
        raise Refused(line_of(node), f"{name} has no value")
    value: dict[str, Any] = {"value": text(found["value"].value, f"{name}.value")}
    if "secret" in found:
        value["secret"] = boolean(found["secret"].value, f"{name}.secret")
    return value


def _only(node: MappingNode, name: str, *keys: str) -> Entries:
    found = entries(node)
    for key, entry in found.items():
        if key not in keys:
            raise Refused(entry.line, f"{name} takes {' and '.join(keys)}, not {key!r}")
    return found


def _items(node: Node, name: str) -> list[Node]:
    if not isinstance(node, SequenceNode):
        raise Refused(line_of(node), f"{name} must be a list such as [a, b], not {kind_of(node)}")
    return list(node.value)


def _scalar(node: Node, name: str, wanted: str) -> ScalarNode:
    if not isinstance(node, ScalarNode):
        raise Refused(line_of(node), f"{name} must be {wanted}, not {kind_of(node)}")
    return node


def _unquoted(node: Node, name: str, wanted: str) -> str:
    scalar = _scalar(node, name, wanted)
    if scalar.style is not None:
        raise Refused(line_of(node), f"{name} must be {wanted}: remove the quotes of {_shown(scalar.value)}")
    return str(scalar.value)


def _joined_surrogates(value: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two halves."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 40 else f"{value[:40]!r}..."
