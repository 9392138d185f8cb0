"""Waiting while the server does not answer: back-off with jitter, up to a bound."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic, sleep
from typing import TypeVar

from hypervisor.client.errors import ApiError, ClientError, ServerAway, Unreachable

T = TypeVar("T")

RETRY_SECONDS = 300.0
"""How long waits go on without a server, unless set."""
RETRY_VARIABLE = "HYPERVISOR_RETRY_SECONDS"
FIRST_DELAY = 0.25
LONGEST_DELAY = 5.0
CALM_SECONDS = 30.0
"""Time without an error after which an error begins another outage: a stream may be silent for long."""
_TRANSIENT = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`seconds` without an answer are survived; 0 means none.

    `on_outage` is called once at the begin of each outage, with its first error and `seconds`.
    """

    seconds: float = RETRY_SECONDS
    on_outage: Callable[[ClientError, float], None] = lambda _error, _seconds: None

    @classmethod
    def from_environment(cls) -> RetryPolicy:
        """The policy of HYPERVISOR_RETRY_SECONDS. Raises ClientError for a value that is no number."""
        return cls(parse_seconds(os.environ.get(RETRY_VARIABLE) or str(RETRY_SECONDS), RETRY_VARIABLE))


def parse_seconds(text: str, name: str) -> float:
    """Seconds, 0 or more. Raises ClientError with the name for other text."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ClientError(f"{name}: {text!r} is not a number of seconds")
    return seconds


class Outage:
    """The errors of one wait. The bound holds for each outage; an answer ends it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._began: float | None = None
        self._failures = 0
        self._tried = monotonic()

    def ended(self) -> None:
        """The server has answered."""
        self._began, self._failures = None, 0

    def survive(self, error: ClientError, *, at_most: float | None = None) -> None:
        """Sleep before the next try, `at_most` seconds.

        Raises `error` if a retry cannot help, and ServerAway when the bound is used up.
        """
        if not is_transient(error) or not self._policy.seconds:
            raise error
        now = monotonic()
        if now - self._tried > CALM_SECONDS:
            self.ended()
        if self._began is None:
            self._began = now
            self._policy.on_outage(error, self._policy.seconds)
        left = self._began + self._policy.seconds - now
        if left <= 0:
            raise ServerAway(self._policy.seconds, error) from None
        delay = min(self._delay(error), left)
        sleep(delay if at_most is None else max(0.0, min(delay, at_most)))
        self._tried = monotonic()

    def _delay(self, error: ClientError) -> float:
        """The server's `Retry-After`, else an exponential delay; both with jitter."""
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        if isinstance(error, ApiError) and error.retry_after is not None:
            return error.retry_after + _jitter.uniform(0, FIRST_DELAY)
        return _jitter.uniform(longest / 2, longest)


def surviving(outage: Outage, request: Callable[[], T]) -> T:
    """The result of `request`, which is repeated while the server does not answer."""
    while True:
        try:
            result = request()
        except (Unreachable, ApiError) as error:
            outage.survive(error)
        else:
            outage.ended()
            return result


def is_transient(error: ClientError) -> bool:
    """Whether the server may answer later: it is away, restarts, or limits requests."""
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.status in _TRANSIENT)
