"""Telling of failures that go on: a loop tries again every second, and a log should not fill the disk."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger


class Failures:
    """Of one loop: with its traceback when it is another one than the last, in a line while it goes on."""

    def __init__(self, log: FilteringBoundLogger, event: str) -> None:
        self._log = log
        self._event = event
        self._last: str | None = None

    def note(self, error: Exception) -> None:
        """The loop has failed with this error, and will go on."""
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if told == self._last:
            self._log.error(self._event, error=told, again=True)
        else:
            self._log.error(self._event, exc_info=error)
        self._last = told

    def over(self) -> None:
        """The loop works: the next failure is a new one."""
        self._last = None
