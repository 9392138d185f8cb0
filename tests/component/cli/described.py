"""An API with described contents: every list has entries with given names, labels and reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.unit.client.scripted import Request, Response

AT = "2026-01-01T10:00:00+00:00"
AMOUNTS = {"cpu_cores": 64.0, "ram_gb": 512.0, "gpu_count": 8.0}
STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "CANCELLED")
FIRST_ID = 4711


@dataclass(frozen=True)
class Described:
    """The API. There is one deployment for each state."""

    name: str
    reason: str

    def respond(self, request: Request) -> Response:
        path = urlsplit(request.path).path.removeprefix("/api/v1")
        content = next((make(self) for end, make in _ROUTES if path.endswith(end)), None)
        return Response(404, {"detail": f"no {path}"}) if content is None else Response(200, content)

    def deployment(self, id_: int, state: str) -> dict[str, Any]:
        return {
            "id": id_,
            "name": self.name,
            "kind": "job",
            "status": state,
            "priority": 500,
            "priority_label": "MEDIUM",
            "required_cpu_cores": 8.0,
            "required_ram_gb": 64.0,
            "required_gpu_count": 2.0,
            "node_name": "rack-17-node-3",
            "gpu_indices": [0, 1],
            "organization_id": 1,
            "cluster_id": 1,
            "cluster_name": self.name,
            "created_at": AT,
            "started_at": AT,
            "finished_at": AT,
            "reason": self.reason,
        }

    def deployments(self) -> dict[str, Any]:
        return _page([self.deployment(FIRST_ID + at, state) for at, state in enumerate(STATES)])

    def queue(self) -> dict[str, Any]:
        entry = {
            "position": 1,
            "id": FIRST_ID,
            "name": self.name,
            "priority_label": "MEDIUM",
            "share": 0.125,
            "age_factor": 0.01,
            "waited_seconds": 83,
            "nomination": {"node": "rack-17-node-3"},
            "reason": self.reason,
        }
        return _page([entry, {**entry, "position": 2, "id": FIRST_ID + 1, "nomination": None}])

    def attempts(self) -> dict[str, Any]:
        attempt = {
            "number": 1,
            "replica": 0,
            "node_name": self.name,
            "gpu_indices": [0, 1, 2, 3],
            "runtime": "process",
            "started_at": AT,
            "finished_at": AT,
            "outcome": "succeeded",
            "exit_code": 0,
            "message": self.reason,
        }
        return _page([attempt])

    def events(self) -> dict[str, Any]:
        event = {
            "id": 1,
            "at": AT,
            "actor": self.name,
            "type": "deployment.state",
            "from_state": "RUNNING",
            "to_state": "SUCCEEDED",
            "deployment_id": FIRST_ID,
            "message": self.reason,
        }
        return _page([event])

    def cluster(self) -> dict[str, Any]:
        return {
            "id": FIRST_ID,
            "name": self.name,
            "runtime": "docker",
            "node_count": 1,
            "capacity": AMOUNTS,
            "allocated": AMOUNTS,
            "available": AMOUNTS,
            "nodes": [self.node()],
        }

    def node(self) -> dict[str, Any]:
        return {
            "id": FIRST_ID,
            "name": self.name,
            "status": "cordoned",
            "capacity": AMOUNTS,
            "allocated": AMOUNTS,
            "available": AMOUNTS,
            "gpu_model": "A100",
            "labels": {f"key-{number}": self.name for number in range(3)},
            "gpus": [{"index": index, "used": 0.5} for index in range(8)],
        }

    def organizations(self) -> dict[str, Any]:
        return _page([{"id": FIRST_ID, "name": self.name, "role": "developer", "created_at": AT}])

    def members(self) -> dict[str, Any]:
        return _page(
            [
                {
                    "user_id": FIRST_ID,
                    "username": self.name,
                    "email": f"{'a' * 60}@example.com",
                    "role": "developer",
                }
            ]
        )

    def shares(self) -> dict[str, Any]:
        share = {
            "cluster_id": FIRST_ID,
            "cluster_name": self.name,
            "organization_id": 815,
            "state": "accepted",
            "guaranteed": AMOUNTS,
            "limit": AMOUNTS,
            "weight": 1.0,
            "used": AMOUNTS,
            "waiting": 3,
        }
        return _page([share])

    def decisions(self) -> dict[str, Any]:
        decision = {
            "id": FIRST_ID,
            "at": AT,
            "placements": 3,
            "evictions": 1,
            "nominations": 0,
            "waiting": 12,
            "snapshot_hash": "a" * 64,
            "plan_hash": "b" * 64,
        }
        return _page([decision])

    def fragmentation(self) -> dict[str, Any]:
        shape = {
            "required_cpu_cores": 8.0,
            "required_ram_gb": 64.0,
            "required_gpu_count": 1.0,
            "weight": 0.5,
            "fits_now": 3,
            "unusable_gpu": 1.5,
        }
        node = {
            "node": self.name,
            "free_cpu_cores": 8.0,
            "free_ram_gb": 64.0,
            "free_gpus": 1,
            "idle_gpu": 1.5,
            "expected_unusable_gpu": 0.5,
        }
        return {"shapes": [shape], "nodes": [node], "opening": None}


_ROUTES: tuple[tuple[str, Callable[[Described], dict[str, Any]]], ...] = (
    ("/attempts", Described.attempts),
    ("/events", Described.events),
    ("/queue", Described.queue),
    ("/nodes", lambda api: _page([api.node()])),
    ("/decisions", Described.decisions),
    ("/fragmentation", Described.fragmentation),
    ("shares", Described.shares),
    ("/members", Described.members),
    ("/organizations", Described.organizations),
    (f"/organizations/{FIRST_ID}", lambda api: api.organizations()["items"][0]),
    ("/clusters", lambda api: _page([api.cluster()])),
    (f"/clusters/{FIRST_ID}", Described.cluster),
    ("/deployments", Described.deployments),
    (f"/deployments/{FIRST_ID}", lambda api: api.deployment(FIRST_ID, "QUEUED")),
)


def _page(items: list[Any]) -> dict[str, Any]:
    return {"items": items, "next_cursor": None}
