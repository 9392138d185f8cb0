"""The settings of this process, and what is wrong with them in one line."""

from __future__ import annotations

from pydantic import ValidationError

from hypervisor.errors import StartupError
from hypervisor.settings import Settings


def load_settings() -> Settings:
    """The settings of this process. Raises StartupError with one line that names what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise StartupError(complaints(error, capitals=True)) from None


def complaints(error: ValidationError, *, capitals: bool) -> str:
    """What is wrong with each field, in one line."""
    lines = []
    for each in error.errors():
        field = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        lines.append(f"{field.upper() if capitals else field}: {message}")
    return "; ".join(lines)
