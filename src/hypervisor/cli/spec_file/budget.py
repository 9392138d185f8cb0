"""A bound on what the deployments of a file stand for: aliases make millions of values of a short text."""

from __future__ import annotations

from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hypervisor.cli.spec_file.nodes import line_of
from hypervisor.cli.spec_file.refusal import Refused
from hypervisor.cli.spec_file.source import MAX_BYTES

MOST = 2 * MAX_BYTES
"""Characters, with one for each value. A server takes MAX_BYTES, with quotes and commas."""
_LEVELS = 3
"""No field has deeper values."""


class Budget:
    """What the deployments of a file may still have. Work stops where it is used up."""

    def __init__(self) -> None:
        self._written = MOST
        self._merged = MOST // 4

    def take_written(self, node: Node) -> None:
        """Before the conversion: the node without what `<<` merges into it. Raises Refused."""
        self._written -= _cost(self._written, node, _LEVELS)
        _check(self._written, line_of(node))

    def take_converted(self, request: dict[str, Any], line: int) -> None:
        """After the conversion: the values, which `<<` may have multiplied. Raises Refused."""
        self._merged -= sum(
            len(value) if isinstance(value, (list, dict)) else 1 for value in request.values()
        )
        _check(self._merged, line)


def _check(left: int, line: int) -> None:
    if left < 0:
        raise Refused(
            line, f"more than {MOST // 1024**2} MiB with what aliases repeat: submit the file in parts"
        )


def _cost(limit: int, node: Node, levels: int) -> int:
    """The characters and values of a node; stops above the limit."""
    cost = 1 + (len(node.value) if isinstance(node, ScalarNode) else 0)
    for part in _parts(node) if levels else ():
        if cost > limit:
            break
        cost += _cost(limit - cost, part, levels - 1)
    return cost


def _parts(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []
