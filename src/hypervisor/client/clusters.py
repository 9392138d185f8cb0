"""Clusters and their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from hypervisor.client.models import Cluster, ClusterShare, Node
from hypervisor.client.scheduler_models import Consolidation, Decision, Fragmentation, Move, QueueEntry
from hypervisor.client.transport import Transport

Fields = Mapping[str, Any]
"""Fields of a request by their API names; left out means the server's default."""


class Clusters:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, fields: Fields) -> Cluster:
        """`fields` holds `total_*` for one node of that size, or `nodes`; see the API reference."""
        cluster: Cluster = self._transport.post("/clusters", {"name": name, **fields})
        return cluster

    def all(self, *, organization_id: int | None = None) -> list[Cluster]:
        return list(self._transport.pages("/clusters", {"organization_id": organization_id}))

    def get(self, cluster_id: int) -> Cluster:
        cluster: Cluster = self._transport.get(f"/clusters/{cluster_id}")
        return cluster

    def update(self, cluster_id: int, fields: Fields, *, force: bool = False) -> Cluster:
        """Shrinking below what is allocated is refused (409) unless `force` drains what is too much."""
        cluster: Cluster = self._transport.patch(f"/clusters/{cluster_id}", fields, {"force": force})
        return cluster

    def delete(self, cluster_id: int, *, force: bool = False) -> bool:
        """True when it is gone, False when what runs there is being stopped first (`force`)."""
        return self._transport.delete(f"/clusters/{cluster_id}", {"force": force})

    def fragmentation(
        self,
        cluster_id: int,
        *,
        gpu_count: float | None = None,
        cpu: float | None = None,
        ram: float | None = None,
    ) -> Fragmentation:
        """What the free room is worth to typical requests, and what would open a place for one."""
        asked = {"gpu_count": gpu_count, "cpu": cpu, "ram": ram}
        params = {name: f"{value:.15g}" for name, value in asked.items() if value is not None}
        found: Fragmentation = self._transport.get(f"/clusters/{cluster_id}/fragmentation", params)
        return found

    def consolidation(self, cluster_id: int, *, steps: int | None = None) -> Consolidation:
        """Few moves that would let more of what waits start."""
        params = {"steps": steps} if steps is not None else None
        found: Consolidation = self._transport.get(f"/clusters/{cluster_id}/consolidation", params)
        return found

    def move(self, cluster_id: int, deployment_id: int, node_id: int) -> Move:
        """Stop a deployment and let it go on at another node."""
        order = {"deployment_id": deployment_id, "node_id": node_id}
        move: Move = self._transport.post(f"/clusters/{cluster_id}/moves", order)
        return move

    def queue(self, cluster_id: int, *, most: int | None = None) -> list[QueueEntry]:
        """Who waits for the cluster in the scheduler's order, the first `most`."""
        params = {"limit": min(most, 100)} if most else None
        return list(islice(self._transport.pages(f"/clusters/{cluster_id}/queue", params), most))

    def decisions(self, cluster_id: int, *, most: int | None = None) -> list[Decision]:
        """Passes of the scheduler that changed something, newest first."""
        params = {"limit": min(most, 100)} if most else None
        return list(islice(self._transport.pages(f"/clusters/{cluster_id}/decisions", params), most))

    def decision(self, decision_id: int, *, snapshot: bool = False) -> Decision:
        """One decision, with its snapshot in base64 where that is asked for."""
        decision: Decision = self._transport.get(f"/decisions/{decision_id}", {"snapshot": snapshot})
        return decision

    def nodes(self, cluster_id: int) -> list[Node]:
        return list(self._transport.pages(f"/clusters/{cluster_id}/nodes"))

    def add_node(self, cluster_id: int, fields: Fields) -> list[Node]:
        """Add one node, or `count` equal ones."""
        answer = self._transport.post(f"/clusters/{cluster_id}/nodes", fields)
        added: list[Node] = answer.get("items", [answer])
        return added

    def update_node(self, cluster_id: int, node_id: int, fields: Fields, *, force: bool = False) -> Node:
        node: Node = self._transport.patch(_node(cluster_id, node_id), fields, {"force": force})
        return node

    def remove_node(self, cluster_id: int, node_id: int, *, force: bool = False) -> bool:
        """True when it is gone, False when what runs there is being stopped first (`force`)."""
        return self._transport.delete(_node(cluster_id, node_id), {"force": force})

    def cordon(self, cluster_id: int, node_id: int) -> Node:
        """Nothing new starts there; what runs goes on."""
        return self._node_action(cluster_id, node_id, "cordon")

    def uncordon(self, cluster_id: int, node_id: int) -> Node:
        return self._node_action(cluster_id, node_id, "uncordon")

    def drain(self, cluster_id: int, node_id: int) -> Node:
        """Cordon it and send what runs there back to the queue."""
        return self._node_action(cluster_id, node_id, "drain")

    def share(self, cluster_id: int, terms: Fields) -> ClusterShare:
        """Offer a part of it: `organization_id`, `guaranteed`, `limit`, `weight`."""
        share: ClusterShare = self._transport.post(f"/clusters/{cluster_id}/shares", terms)
        return share

    def shares(self, cluster_id: int | None = None) -> list[ClusterShare]:
        """Of one cluster; without one, all that the caller's organizations give and are given."""
        path = "/cluster-shares" if cluster_id is None else f"/clusters/{cluster_id}/shares"
        return list(self._transport.pages(path))

    def answer_offer(self, cluster_id: int, organization_id: int, *, accepts: bool) -> ClusterShare:
        """Accept or decline what is offered to an organization of which the caller is an admin."""
        word = "accept" if accepts else "decline"
        share: ClusterShare = self._transport.post(f"{_share(cluster_id, organization_id)}/{word}")
        return share

    def unshare(self, cluster_id: int, organization_id: int) -> None:
        self._transport.delete(_share(cluster_id, organization_id))

    def _node_action(self, cluster_id: int, node_id: int, action: str) -> Node:
        node: Node = self._transport.post(f"{_node(cluster_id, node_id)}/{action}")
        return node


def _share(cluster_id: int, organization_id: int) -> str:
    return f"/clusters/{cluster_id}/shares/{organization_id}"


def _node(cluster_id: int, node_id: int) -> str:
    return f"/clusters/{cluster_id}/nodes/{node_id}"
