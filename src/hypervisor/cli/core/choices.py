"""Options with the names of a registry as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer


def one_of(names: Callable[[], Sequence[str]]) -> dict[str, Any]:
    """Arguments for `typer.Option` that show the names in the help and refuse any other value."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names():
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names())}.")
        return value

    return {"callback": check, "metavar": f"[{'|'.join(names())}]"}
