"""Rules for text that people send: what is refused everywhere, and how names compare."""

from __future__ import annotations

import unicodedata


def unsafe_reason(text: str) -> str | None:
    """Why this text is refused everywhere (NUL, half a surrogate pair), or None for text that is fine."""
    if "\0" in text:
        return "must not contain the NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not contain half of a surrogate pair"
    return None


def has_control_characters(text: str) -> bool:
    """Whether a one-line text has line breaks, escapes or other control characters in it."""
    return not text.isprintable() and any(unicodedata.category(one) == "Cc" for one in text)


def fold(text: str) -> str:
    """The form in which names are compared: without regard to case, width or the way accents are written."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
