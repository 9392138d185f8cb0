"""Loading of the settings, with invalid values reported in one line."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hypervisor.cli.core.env_file import env_file_names
from hypervisor.errors import StartupError
from hypervisor.runtimes.kinds import check_default_runtime
from hypervisor.settings import Settings

_NUMBERS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
}


def load_settings() -> Settings:
    """The settings of this process. Raises StartupError with one line that names the invalid settings."""
    env_file_names()
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
        messages.append(f"{field.upper() if uppercase else field}: {_sentence(details)}")
    return "; ".join(messages)


def _sentence(details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    if value == "":
        return "is empty; set a value, or unset it to use the default"
    shown = f", not {value!r}" if isinstance(value, (str, int, float)) else ""
    if kind in _NUMBERS:
        return f"must be {_NUMBERS[kind]}{shown}"
    return details["msg"].replace("Input should be", "must be") + shown
