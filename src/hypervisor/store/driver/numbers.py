"""Numbers among the parameters of DATABASE_URL."""

from __future__ import annotations

from hypervisor.errors import StartupError
from hypervisor.store.driver.libpq_defaults import Parameter

DEFAULT_PORT = 5432
MAX_WHOLE_NUMBER = 2**31 - 1
"""The highest number of a C `int`, which the system and the driver take."""


def whole_number(parameter: Parameter, most: int = MAX_WHOLE_NUMBER) -> int:
    """A number from 0 to `most`. Raises StartupError."""
    if not (parameter.value.isascii() and parameter.value.isdecimal()):
        raise StartupError(f"{parameter.place}={parameter.value} is not a number; write a whole number")
    digits = parameter.value.lstrip("0") or "0"
    # Python refuses to convert some thousand digits.
    if len(digits) > len(str(most)) or int(digits) > most:
        raise StartupError(
            f"{parameter.place}={parameter.value} is too high; write a number from 0 to {most}"
        )
    return int(digits)


def seconds(parameter: Parameter, default: float) -> float:
    """A duration above 0; 0 is the default. Raises StartupError."""
    try:
        value = float(parameter.value)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise StartupError(
            f"{parameter.place}={parameter.value} is not a duration; write seconds, at least 1"
        )
    return value or default


def port(text: str, place: str) -> int:
    """The number of a TCP port; "" is the default. Raises StartupError."""
    if not text:
        return DEFAULT_PORT
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 0 < number < 65536:
        raise StartupError(f"{place}={text} is not a port; write a number from 1 to 65535")
    return number
