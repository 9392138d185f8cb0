"""The errors of a refused request in plain words, one for each fault."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from hypervisor.api.schema import not_a_text

Item = Mapping[str, Any]
_BRANCHES = ("constrained-", "function-")
_KINDS = {
    "int_type": "a whole number",
    "string_type": "a text",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def of_one_branch(items: Sequence[Item]) -> list[Item]:
    """The errors without those of the alternatives that the value was not meant for.

    Where a value may have several types, pydantic reports an error for each, with the type in its location.
    """
    prefix = next((item["loc"][:at] for item in items if (at := _branch_at(item["loc"])) is not None), None)
    if prefix is None:
        return list(items)
    first = next(index for index, item in enumerate(items) if item["loc"][: len(prefix)] == prefix)
    among = [
        item for item in items if item["loc"][: len(prefix)] == prefix and len(item["loc"]) > len(prefix)
    ]
    others = [item for item in items if item not in among]
    return of_one_branch([*others[:first], *_meant(among, len(prefix)), *others[first:]])


def message(item: Item) -> str:
    """The reason for an error, in plain words."""
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "string_type":
        return not_a_text(item["input"])
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {_shown(item['input'])}"
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"must be {word} {_bound(context[bound])}, not {_shown(item['input'])}"
    if kind == "string_pattern_mismatch":
        # A value may be a secret; the key of a mapping is not.
        what = _shown(item["input"]) if item["loc"][-1] == "[key]" else "the text"
        return f"{what} does not match {context['pattern']}"
    return str(item["msg"]).removeprefix("Value error, ")


def _branch_at(location: Sequence[Any]) -> int | None:
    return next((at for at, part in enumerate(location) if str(part).startswith(_BRANCHES)), None)


def _meant(among: Sequence[Item], at: int) -> list[Item]:
    """The errors of the alternative with the kind of the value; one error if there is none."""
    branches = [list(errors) for _, errors in groupby(among, lambda item: item["loc"][at])]
    for errors in branches:
        if not any(error["type"] in _KINDS and len(error["loc"]) == at + 1 for error in errors):
            return [{**error, "loc": error["loc"][:at] + error["loc"][at + 1 :]} for error in errors]
    first = among[0]
    kinds = " or ".join(dict.fromkeys(_KINDS[error["type"]] for error in among if error["type"] in _KINDS))
    reason = f"must be {kinds}, not {_shown(first['input'])}"
    return [{**first, "type": "no_branch", "msg": reason, "loc": first["loc"][:at]}]


def _bound(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."
