"""Token stores. A refresh token works once, so a store has a lock that is held during a renewal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tokens:
    """An access token and, for a session that can be renewed, its refresh token."""

    access: str
    refresh: str | None = None


class TokenStore(Protocol):
    """Storage of the tokens of one server."""

    def load(self) -> Tokens | None:
        """The current tokens, None without a session."""
        ...

    def save(self, tokens: Tokens | None) -> None:
        """Store the tokens; None removes them."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """The lock of the store. Every client of the store holds it while it renews tokens."""
        ...


class MemoryTokens:
    """Tokens in memory; safe for several threads."""

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
