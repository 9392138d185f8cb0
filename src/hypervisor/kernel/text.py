"""Rules for text in requests: invalid characters, and the comparison of names."""

from __future__ import annotations

import unicodedata


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
    """Whether a one-line text contains line breaks, escapes or other control characters."""
    return not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text)


def fold(text: str) -> str:
    """The form for comparing names: it ignores case, width and the encoding of accents."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
