"""Where a session's tokens live. A refresh token works once: whoever renews must be alone while doing so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tokens:
    """An access token and, where the session can be renewed, the refresh token that does it."""

    access: str
    refresh: str | None = None


class TokenStore(Protocol):
    def load(self) -> Tokens | None:
        """The tokens as they are now, None when nobody is logged in."""
        ...

    def save(self, tokens: Tokens | None) -> None:
        """Keep these; None forgets."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Held while tokens are renewed, by every user of the same store."""
        ...


class MemoryTokens:
    """Tokens of one process; safe among its threads."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()

    def load(self) -> Tokens | None:
        return self._tokens

    def save(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            yield
