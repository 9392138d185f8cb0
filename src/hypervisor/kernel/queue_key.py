"""The order of a queue: by priority from the highest down, then by age, then by id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class QueueKey(NamedTuple):
    """The sort key of a deployment in the queue of its cluster; the head of the queue has the smallest key.

    `negative_priority` is minus the priority. `created_us` is the time of creation in microseconds since
    1970-01-01 UTC; the key is exact, because a `datetime` has no finer resolution.
    """

    negative_priority: int
    created_us: int
    id: int

    @classmethod
    def of(cls, priority: int, created_at: datetime, id_: int) -> QueueKey:
        """The key of a deployment with this priority, which may be an inherited one."""
        return cls(-priority, (created_at - _EPOCH) // _MICROSECOND, id_)

    @property
    def priority(self) -> int:
        return -self.negative_priority

    @property
    def created_at(self) -> datetime:
        """The time of creation in UTC, exact."""
        return _EPOCH + self.created_us * _MICROSECOND
