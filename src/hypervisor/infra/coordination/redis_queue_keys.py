"""The encoding of the queue index in Redis: its keys, and members that sort byte by byte."""

from __future__ import annotations

from hypervisor.infra.randomness import random_hex
from hypervisor.kernel.queue_key import QueueKey

_HIGHEST = 9999
_PRIORITY, _TIME, _ID = 4, 17, 19


class Keys:
    """Keys of one installation. The keys of a cluster share a hash tag, so that one script may use them."""

    def __init__(self, install: str) -> None:
        self._prefix = f"hypervisor:{install}"

    def of(self, cluster_id: int) -> tuple[str, str]:
        """The sorted set and the hash of a cluster."""
        tag = f"{self._prefix}:{{queue:{cluster_id}}}"
        return f"{tag}:order", f"{tag}:places"

    def being_built(self, cluster_id: int) -> tuple[str, str]:
        """Temporary keys for an index that is being built."""
        token = random_hex(8)
        order, places = self.of(cluster_id)
        return f"{order}:{token}", f"{places}:{token}"

    def left(self, cluster_id: int, deployment_id: int) -> str:
        """The key of the tombstone of a deployment that has left the queue."""
        return f"{self._prefix}:{{queue:{cluster_id}}}:left:{deployment_id}"


def as_member(key: QueueKey) -> str:
    """The key as text; texts sort as keys do (for priorities 0 to 1000 and times from 1970 on)."""
    return f"{_HIGHEST + key.negative_priority:0{_PRIORITY}}{key.created_us:0{_TIME}}{key.id:0{_ID}}"


def as_key(member: str) -> QueueKey:
    """The key that a member encodes."""
    time, id_ = member[_PRIORITY : _PRIORITY + _TIME], member[_PRIORITY + _TIME :]
    return QueueKey(int(member[:_PRIORITY]) - _HIGHEST, int(time), int(id_))
