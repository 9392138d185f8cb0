"""Rules for text in requests: invalid characters, and the comparison of names."""

from __future__ import annotations

import unicodedata

_CONTROLS = frozenset({"Cc", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def unsafe_reason(text: str) -> str | None:
    """Why this text is invalid everywhere (NUL, half a surrogate pair), or None if it is valid."""
    if "\0" in text:
        return "must not contain the NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not contain half of a surrogate pair"
    return None


def has_control_characters(text: str) -> bool:
    """Whether a one-line text contains line breaks, escapes or other control characters.

    Those that change the direction of text count: they show a path or a name in another order than it has.
    """
    return not text.isprintable() and any(
        unicodedata.category(char) in _CONTROLS or char in _DIRECTIONS for char in text
    )


def fold(text: str) -> str:
    """The form for comparing names: it ignores case, width and the encoding of accents."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
