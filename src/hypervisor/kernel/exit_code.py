"""The meaning of exit codes, in words.

An engine reports the end of a program by signal n as the code 128 + n, and a program may choose the same code
itself. So the words for such a code name both. The shell's codes 126 and 127 are ambiguous in the same way.
"""

from __future__ import annotations

import signal

NOT_EXECUTABLE = 126
NOT_FOUND = 127
_SIGNAL_BASE = 128
_LARGEST_SIGNAL = signal.NSIG - 1
_OWN = "or the program's own code"


def possible_signal(code: int) -> int | None:
    """The signal n of a code 128 + n; None for a code that no signal of this platform causes."""
    number = code - _SIGNAL_BASE
    return number if 1 <= number <= _LARGEST_SIGNAL else None


def meaning(code: int) -> str | None:
    """What a code may mean; None for a code that only the program knows."""
    if code == NOT_EXECUTABLE:
        return f"a program could not be executed, {_OWN}"
    if code == NOT_FOUND:
        return f"a program was not found, {_OWN}"
    number = possible_signal(code)
    return None if number is None else f"{_signal_name(number)}, {_OWN}"


def code_with_meaning(code: int) -> str:
    """`3`, or `137 (SIGKILL, or the program's own code)`."""
    words = meaning(code)
    return str(code) if words is None else f"{code} ({words})"


def describe_exit_code(code: int) -> str:
    """`exit code 3`, or `exit code 137 (SIGKILL, or the program's own code)`."""
    return f"exit code {code_with_meaning(code)}"


def _signal_name(number: int) -> str:
    """The name; between the first and the last real-time signal, the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
