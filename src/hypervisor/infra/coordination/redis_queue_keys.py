"""The encoding of the queue index in Redis: its keys, and members that sort byte by byte."""

from __future__ import annotations

import secrets

from hypervisor.infra.coordination.queue_index import Place

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
        token = secrets.token_hex(8)
        order, places = self.of(cluster_id)
        return f"{order}:{token}", f"{places}:{token}"

    def left(self, cluster_id: int, deployment_id: int) -> str:
        """The key of the tombstone of a deployment that has left the queue."""
        return f"{self._prefix}:{{queue:{cluster_id}}}:left:{deployment_id}"


def as_member(place: Place) -> str:
    """The place as text; texts sort as places do (for priorities 0 to 1000 and times from 1970 on)."""
    return f"{_HIGHEST + place.descent:0{_PRIORITY}}{place.created_us:0{_TIME}}{place.id:0{_ID}}"


def as_place(member: str) -> Place:
    """The place that a member was made from."""
    time, id_ = member[_PRIORITY : _PRIORITY + _TIME], member[_PRIORITY + _TIME :]
    return Place(int(member[:_PRIORITY]) - _HIGHEST, int(time), int(id_))
