"""Options whose values are the names in a registry of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer


def one_of(names: Callable[[], Sequence[str]]) -> dict[str, Any]:
    """Arguments for `typer.Option`: the names are shown, and any other value is refused."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names():
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names())}.")
        return value

    return {"callback": check, "metavar": f"[{'|'.join(names())}]"}
