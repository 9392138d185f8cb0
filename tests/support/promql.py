"""A partial parser of Prometheus expressions, to check them against the metrics that a server exposes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      |(?P<range>\[[^\]]*\])
      |(?P<word>[a-zA-Z_:$][\w:$]*)
      |(?P<number>\d[\w.]*)
      |(?P<operator>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},@])
      |(?P<space>\s+)""",
    re.VERBOSE,
)
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_OF_THE_SCRAPE = {"instance", "job", "role"}
_OF_PROMETHEUS = {"up"}


@dataclass
class Exposed:
    """The samples of one response: the labels of each series name with their values."""

    labels: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str) -> Exposed:
        seen = cls()
        for family in text_string_to_metric_families(text):
            seen.families.add(family.name)
            for sample in family.samples:
                values = seen.labels.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    values.setdefault(name, set()).add(value)
        return seen


@dataclass
class Selector:
    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Expression:
    selectors: list[Selector] = field(default_factory=list)
    grouped_by: set[str] = field(default_factory=set)


def parse(text: str) -> Expression:
    """The selectors of an expression and its grouping labels. Raises ValueError for a syntax error."""
    found, tokens = Expression(), list(_tokens(text))
    _check_brackets(tokens, text)
    at = 0
    while at < len(tokens):
        kind, token = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind != "word" or token in _OPERATORS:
            at += 1
        elif token in _GROUPING:
            at, inside = _until(tokens, at + 1, ")") if following == "(" else (at + 1, [])
            found.grouped_by |= {word for kind, word in inside if kind == "word"}
        elif following == "(":
            at += 1
        elif following == "{":
            at, inside = _until(tokens, at + 1, "}")
            found.selectors.append(Selector(token, list(_matchers(inside))))
        elif following in _GROUPING:
            at += 1
        else:
            found.selectors.append(Selector(token))
            at += 1
    return found


def complaints(text: str, exposed: Exposed) -> Iterator[str]:
    """A sentence for each part of the expression that matches nothing exposed."""
    expression = parse(text)
    there = set(_OF_THE_SCRAPE)
    for selector in expression.selectors:
        if selector.metric in _OF_PROMETHEUS:
            continue
        labels = exposed.labels.get(selector.metric)
        if labels is None:
            yield f"{selector.metric} is not exposed"
            continue
        there |= labels.keys()
        yield from _mismatches(selector, labels)
    for label in sorted(expression.grouped_by - there):
        yield f"no metric of the expression has the grouping label {label}"


def _mismatches(selector: Selector, labels: Mapping[str, set[str]]) -> Iterator[str]:
    for label, operator, value in selector.matchers:
        if label in _OF_THE_SCRAPE or value.startswith("$"):
            continue
        if label not in labels:
            yield f"{selector.metric} has no label {label}"
        elif operator == "=" and value not in labels[label]:
            yield f"{selector.metric} has no {label}={value!r} but {sorted(labels[label])}"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"cannot read {text[at : at + 20]!r} in {text!r}")
        at = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()


def _check_brackets(tokens: list[tuple[str, str]], text: str) -> None:
    open_: list[str] = []
    for kind, token in tokens:
        if kind == "operator" and token in "({":
            open_.append({"(": ")", "{": "}"}[token])
        elif kind == "operator" and token in ")}" and (not open_ or open_.pop() != token):
            raise ValueError(f"{token} closes nothing in {text!r}")
    if open_:
        raise ValueError(f"{open_[-1]} is missing in {text!r}")


def _until(tokens: list[tuple[str, str]], at: int, end: str) -> tuple[int, list[tuple[str, str]]]:
    """The index after the closing bracket, and the tokens inside."""
    close = next(index for index in range(at, len(tokens)) if tokens[index][1] == end)
    return close + 1, tokens[at + 1 : close]


def _matchers(inside: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    for start in range(0, len(inside), 4):
        (_, label), (_, operator), (_, value) = inside[start : start + 3]
        yield label, operator, value[1:-1]
