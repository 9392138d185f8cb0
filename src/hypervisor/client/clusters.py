"""Clusters: nodes, shares, the queue, decisions and moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypervisor.client.models import Cluster, ClusterShare, Node
from hypervisor.client.scheduler_models import Consolidation, Decision, Fragmentation, Move, QueueEntry
from hypervisor.client.transport import Transport

MOST_PER_PAGE = 100

Fields = Mapping[str, Any]
"""Request fields by API name. The server has defaults for missing fields."""


class Clusters:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, fields: Fields) -> Cluster:
        """Create a cluster. `fields` has `total_*` for one node of that size, or `nodes`."""
        cluster: Cluster = self._transport.post("/clusters", {"name": name, **fields})
        return cluster

    def all(self, *, organization_id: int | None = None) -> list[Cluster]:
        return list(self._transport.pages("/clusters", {"organization_id": organization_id}))

    def get(self, cluster_id: int) -> Cluster:
        cluster: Cluster = self._transport.get(f"/clusters/{cluster_id}")
        return cluster

    def update(self, cluster_id: int, fields: Fields, *, force: bool = False) -> Cluster:
        """Change a cluster.

        A size below the allocated amount is refused (409) without `force`, which drains.
        """
        cluster: Cluster = self._transport.patch(f"/clusters/{cluster_id}", fields, {"force": force})
        return cluster

    def delete(self, cluster_id: int, *, force: bool = False) -> bool:
        """True when it is deleted, False when deployments are being stopped first (with `force`)."""
        return self._transport.delete(f"/clusters/{cluster_id}", {"force": force})

    def fragmentation(
        self,
        cluster_id: int,
        *,
        gpu_count: float | None = None,
        cpu: float | None = None,
        ram: float | None = None,
    ) -> Fragmentation:
        """How much free capacity typical requests can use, and the moves that would let a request fit.

        The request is optional: `gpu_count` GPUs, `cpu` cores, `ram` in GB.
        """
        request = {"gpu_count": gpu_count, "cpu": cpu, "ram": ram}
        params = {name: f"{value:.15g}" for name, value in request.items() if value is not None}
        found: Fragmentation = self._transport.get(f"/clusters/{cluster_id}/fragmentation", params)
        return found

    def consolidation(self, cluster_id: int, *, steps: int | None = None) -> Consolidation:
        """A few moves that would let more queued deployments start; `steps` bounds the search."""
        params = {"steps": steps} if steps is not None else None
        found: Consolidation = self._transport.get(f"/clusters/{cluster_id}/consolidation", params)
        return found

    def move(self, cluster_id: int, deployment_id: int, node_id: int) -> Move:
        """Stop a deployment and start it again on another node."""
        request = {"deployment_id": deployment_id, "node_id": node_id}
        move: Move = self._transport.post(f"/clusters/{cluster_id}/moves", request)
        return move

    def queue(self, cluster_id: int, *, limit: int | None = None) -> list[QueueEntry]:
        """The queue of the cluster in scheduling order, at most `limit` entries."""
        return self._first(f"/clusters/{cluster_id}/queue", limit)

    def decisions(self, cluster_id: int, *, limit: int | None = None) -> list[Decision]:
        """The scheduling passes that changed something, newest first, at most `limit`."""
        return self._first(f"/clusters/{cluster_id}/decisions", limit)

    def decision(self, decision_id: int, *, snapshot: bool = False) -> Decision:
        """One decision; with `snapshot`, its snapshot in base64 too."""
        decision: Decision = self._transport.get(f"/decisions/{decision_id}", {"snapshot": snapshot})
        return decision

    def nodes(self, cluster_id: int) -> list[Node]:
        return list(self._transport.pages(f"/clusters/{cluster_id}/nodes"))

    def add_node(self, cluster_id: int, fields: Fields) -> list[Node]:
        """Add one node, or several equal nodes with the field `count`."""
        response = self._transport.post(f"/clusters/{cluster_id}/nodes", fields)
        added: list[Node] = response.get("items", [response])
        return added

    def update_node(self, cluster_id: int, node_id: int, fields: Fields, *, force: bool = False) -> Node:
        """Change a node. A size below the allocated amount is refused (409) without `force`, which drains."""
        node: Node = self._transport.patch(_node_path(cluster_id, node_id), fields, {"force": force})
        return node

    def remove_node(self, cluster_id: int, node_id: int, *, force: bool = False) -> bool:
        """True when it is removed, False when deployments are being stopped first (with `force`)."""
        return self._transport.delete(_node_path(cluster_id, node_id), {"force": force})

    def cordon(self, cluster_id: int, node_id: int) -> Node:
        """Keep new deployments off the node; running ones continue."""
        return self._node_action(cluster_id, node_id, "cordon")

    def uncordon(self, cluster_id: int, node_id: int) -> Node:
        """Admit new deployments to the node again."""
        return self._node_action(cluster_id, node_id, "uncordon")

    def drain(self, cluster_id: int, node_id: int) -> Node:
        """Cordon the node and send its deployments back to the queue."""
        return self._node_action(cluster_id, node_id, "drain")

    def share(self, cluster_id: int, terms: Fields) -> ClusterShare:
        """Offer a part of the cluster. `terms` has `organization_id`, `guaranteed`, `limit` and `weight`."""
        share: ClusterShare = self._transport.post(f"/clusters/{cluster_id}/shares", terms)
        return share

    def shares(self, cluster_id: int | None = None) -> list[ClusterShare]:
        """The shares of a cluster; for None, all shares that the caller's organizations give or receive."""
        path = "/cluster-shares" if cluster_id is None else f"/clusters/{cluster_id}/shares"
        return list(self._transport.pages(path))

    def answer_offer(self, cluster_id: int, organization_id: int, *, accept: bool) -> ClusterShare:
        """Accept or decline an offer to an organization. The caller must be an admin of the organization."""
        action = "accept" if accept else "decline"
        share: ClusterShare = self._transport.post(f"{_share_path(cluster_id, organization_id)}/{action}")
        return share

    def unshare(self, cluster_id: int, organization_id: int) -> None:
        """Withdraw a share or an offer."""
        self._transport.delete(_share_path(cluster_id, organization_id))

    def _first(self, path: str, limit: int | None) -> list[Any]:
        params = {"limit": min(limit, MOST_PER_PAGE)} if limit else None
        return self._transport.first(path, params, limit)

    def _node_action(self, cluster_id: int, node_id: int, action: str) -> Node:
        node: Node = self._transport.post(f"{_node_path(cluster_id, node_id)}/{action}")
        return node


def _share_path(cluster_id: int, organization_id: int) -> str:
    return f"/clusters/{cluster_id}/shares/{organization_id}"


def _node_path(cluster_id: int, node_id: int) -> str:
    return f"/clusters/{cluster_id}/nodes/{node_id}"
