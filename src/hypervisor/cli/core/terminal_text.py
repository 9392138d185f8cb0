"""Makes the output of workloads safe for a terminal.

A workload must not change the title, the clipboard, the settings or earlier lines of the operator's terminal.
Text, tabs, backspaces, carriage returns, colours and the erasure of the current line pass. Other control
characters are shown as `^[`, `^L` and so on.
"""

from __future__ import annotations

import re

RESET = "\x1b[0m"

_PASSES = r"\x1b\[[0-9;:]{0,30}[mK]"
_CONTROL = r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
_CONTROLS = re.compile(_CONTROL)
_FILTERED = re.compile(f"(?P<passes>{_PASSES})|{_CONTROL}")
_INCOMPLETE = re.compile(r"\x1b(\[[0-9;:]{0,30})?\Z")


def without_controls(text: str) -> str:
    """The text with control characters made visible, colours too."""
    return _CONTROLS.sub(lambda match: _visible(match[0]), text)


class TerminalFilter:
    """Filters text that arrives in pieces, which may end within a control sequence."""

    def __init__(self) -> None:
        self._rest = ""
        self._is_styled = False

    def feed(self, piece: str) -> str:
        """The part of the text that can be written now."""
        text = self._rest + piece
        incomplete = _INCOMPLETE.search(text)
        end = len(text) if incomplete is None else incomplete.start()
        self._rest = text[end:]
        return self._filter(text[:end])

    def end(self) -> str:
        """The rest, and a reset of the colours if the text has set any."""
        rest, self._rest = self._filter(self._rest), ""
        return rest + (RESET if self._is_styled else "")

    def _filter(self, text: str) -> str:
        return _FILTERED.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        if match["passes"] is None:
            return _visible(match[0])
        self._is_styled = True
        return match[0]


def _visible(character: str) -> str:
    """Caret notation. A control character above 127 is its escape and the letter, `^[]` for U+009D."""
    code = ord(character)
    if code >= 0x80:
        return f"^[{chr(code - 0x40)}"
    return f"^{chr(code ^ 0x40)}"
