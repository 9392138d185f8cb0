"""The leases that this server holds now. Every loop checks them before it acts.

Trust in a lease is local and monotonic: it is counted from the START of the last successful renewal, so a
slow database ends trust early, never late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.store.leases import Fence

CLUSTER = "cluster:"
ENGINE = "engine:"
TOPIC = "leases"
MAINTENANCE = "maintenance"


class NotHeld(Exception):
    """Another server holds the lease, or may hold it by now: only the holder may act."""


def cluster_lease(cluster_id: int) -> str:
    """The lease under which a cluster is scheduled."""
    return f"{CLUSTER}{cluster_id}"


def engine_lease(engine: EngineRef) -> str:
    """The lease under which an engine is driven; endpoints are too long for a name."""
    if engine.endpoint is None:
        return f"{ENGINE}{engine.runtime}"
    return f"{ENGINE}{engine.runtime}:{sha256(engine.endpoint.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class _Held:
    epoch: int
    trusted_until: float
    """By the monotonic clock."""


class HeldLeases:
    """The leases of this server. `LeaseManager` writes them, the loops read them."""

    def __init__(self, clock: Clock, wakeup: Wakeup) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._known: frozenset[str] = frozenset()
        self.listener = wakeup.listen(TOPIC)
        """Wakes the lease manager."""

    def fence(self, name: str) -> Fence | None:
        """The lease and its epoch while trusted, else None."""
        held = self._held.get(name)
        if held is None or self._clock.monotonic() >= held.trusted_until:
            return None
        return Fence(name, held.epoch)

    def engine(self, engine: EngineRef) -> Fence:
        """The fence of an engine's lease. Raises NotHeld."""
        fence = self.fence(engine_lease(engine))
        if fence is None:
            raise NotHeld(f"another server drives {engine}")
        return fence

    def epochs(self) -> Mapping[str, int]:
        """The epoch of each trusted lease."""
        now = self._clock.monotonic()
        return {name: held.epoch for name, held in self._held.items() if now < held.trusted_until}

    def invalidate(self, name: str) -> None:
        """Drop a lease after a newer epoch was read."""
        self._held.pop(name, None)
        self.listener.set()

    def request(self, names: Collection[str]) -> None:
        """Wake the lease manager for leases that it has not observed yet."""
        if not self._known.issuperset(names):
            self.listener.set()

    def acquired(self, epochs: Mapping[str, int], trusted_until: float) -> None:
        self._held.update((name, _Held(epoch, trusted_until)) for name, epoch in epochs.items())

    def renew(self, names: Collection[str], trusted_until: float) -> None:
        """Extend the trust in these leases and drop all others."""
        self._held = {
            name: _Held(held.epoch, trusted_until) for name, held in self._held.items() if name in names
        }

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._held.pop(name, None)

    def names(self) -> frozenset[str]:
        """All acquired leases that were not lost, trusted or not."""
        return frozenset(self._held)

    def overdue(self) -> frozenset[str]:
        """The acquired leases whose trust has ended."""
        return self.names() - self.epochs().keys()

    def observed(self, names: Iterable[str]) -> None:
        """Replace the known leases; each has a holder, or will have one after the next turn."""
        self._known = frozenset(names)
