"""No module of the package imports itself through others, not even for type annotations."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import hypervisor

ROOT = Path(hypervisor.__file__).parent


def test_no_circle_of_imports() -> None:
    """Imports under TYPE_CHECKING and inside functions count: what is left is one direction to read in."""
    assert circles(imports_of_package(ROOT)) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]


def imports_of_package(root: Path) -> dict[str, set[str]]:
    """The modules of the package that each of its modules imports, by dotted name."""
    files = {_name_of(path, root): path for path in sorted(root.rglob("*.py"))}
    return {name: set(_imported(ast.parse(path.read_text()), files)) - {name} for name, path in files.items()}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (strongly connected components), each sorted."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def _imported(tree: ast.Module, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in files:
                    yield inner
                elif node.module in files:
                    yield node.module


def _name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
