"""Logging of repeated failures: a loop retries every second, and its log should not fill the disk."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger


class Failures:
    """Logs the failures of one loop: a new failure with its traceback, a repeated one in a single line."""

    def __init__(self, log: FilteringBoundLogger, event: str) -> None:
        self._log = log
        self._event = event
        self._last: str | None = None

    def note(self, error: Exception) -> None:
        """Log a failure after which the loop continues."""
        summary = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if summary == self._last:
            self._log.error(self._event, error=summary, again=True)
        else:
            self._log.error(self._event, exc_info=error)
        self._last = summary

    def over(self) -> None:
        """The loop works again: log the next failure with its traceback."""
        self._last = None
