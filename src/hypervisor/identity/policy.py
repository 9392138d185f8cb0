"""Limits and rules of logins; no I/O."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from limits import RateLimitItem, RateLimitItemPerMinute

REFRESH_IDLE = timedelta(days=7)
SESSION_LIFETIME = timedelta(days=30)
LOGINS_PER_ADDRESS: RateLimitItem = RateLimitItemPerMinute(20)

FREE_FAILURES = 4
MAX_BACKOFF = timedelta(minutes=15)
FAILURE_LIFETIME = timedelta(days=1)

USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,63}")
"""Without @, so that a username is never an e-mail address."""


def backoff(failures: int) -> timedelta:
    """The wait after this number of failures in a row: 1 s at the fifth, doubling up to 15 min."""
    if failures <= FREE_FAILURES:
        return timedelta(0)
    return min(MAX_BACKOFF, timedelta(seconds=2 ** min(failures - FREE_FAILURES - 1, 20)))


def counted_failures(failures: int, last_at: datetime, now: datetime) -> int:
    """The number of failures that still count at `now`."""
    return 0 if now - last_at >= FAILURE_LIFETIME else failures
