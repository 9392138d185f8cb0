"""Loading of the settings, with invalid values reported in one line."""

from __future__ import annotations

from pydantic import ValidationError

from hypervisor.errors import StartupError
from hypervisor.runtimes.kinds import check_default_runtime
from hypervisor.settings import Settings


def load_settings() -> Settings:
    """The settings of this process. Raises StartupError with one line that names the invalid settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise StartupError(validation_message(error, uppercase=True)) from None
    check_default_runtime(settings)
    return settings


def validation_message(error: ValidationError, *, uppercase: bool) -> str:
    """The invalid fields and their errors in one line."""
    messages = []
    for details in error.errors():
        field = ".".join(str(part) for part in details["loc"])
        message = details["msg"].removeprefix("Value error, ")
        messages.append(f"{field.upper() if uppercase else field}: {message}")
    return "; ".join(messages)
