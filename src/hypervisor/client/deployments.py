"""Deployments: submit, look, steer, wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypervisor.client.models import Attempt, Deployment, Event, Explanation, Page
from hypervisor.client.scheduler_models import Forecast
from hypervisor.client.streams import LogStream
from hypervisor.client.transport import Params, Transport

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "CANCELLED"})
ACTIVE = ("BLOCKED", "QUEUED", "STARTING", "RUNNING", "STOPPING")
"""States of what waits or is live."""

Fields = Mapping[str, Any]
"""Fields of a request by their API names; left out means the server's default."""


class Deployments:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, fields: Fields, *, idempotency_key: str | None = None) -> Deployment:
        """Submit one. The same `idempotency_key` with the same fields answers the same deployment again."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        deployment: Deployment = self._transport.post("/deployments", fields, headers=headers)
        return deployment

    def create_batch(self, deployments: Sequence[Fields]) -> list[Deployment]:
        """Submit up to 1,000, all or none; `depends_on` may name other members."""
        answer = self._transport.post("/deployments/batch", {"deployments": list(deployments)})
        created: list[Deployment] = answer["items"]
        return created

    def plan(self, fields: Fields) -> Forecast:
        """What would become of one if it was submitted now; nothing is made."""
        forecast: Forecast = self._transport.post("/deployments/plan", fields)
        return forecast

    def page(self, filters: Params | None = None) -> Page[Deployment]:
        """One page, newest first; only without a `next_cursor` it is the last, however few are on it.

        Filters: organization_id, cluster_id, state, priority, label, name, limit, cursor.
        """
        page: Page[Deployment] = self._transport.get("/deployments", filters)
        return page

    def find(self, filters: Params | None = None, *, most: int | None = None) -> list[Deployment]:
        """All that match, newest first, at most `most`."""
        found: list[Deployment] = []
        for deployment in self._transport.pages("/deployments", filters):
            found.append(deployment)
            if most is not None and len(found) >= most:
                break
        return found

    def get(self, deployment_id: int) -> Deployment:
        deployment: Deployment = self._transport.get(f"/deployments/{deployment_id}")
        return deployment

    def update(self, deployment_id: int, fields: Fields) -> Deployment:
        deployment: Deployment = self._transport.patch(f"/deployments/{deployment_id}", fields)
        return deployment

    def delete(self, deployment_id: int) -> bool:
        """True when it is gone, False when it is being stopped first."""
        return self._transport.delete(f"/deployments/{deployment_id}")

    def start(self, deployment_id: int) -> Deployment:
        """Queue it again after it has ended."""
        return self._command(deployment_id, "start")

    def stop(self, deployment_id: int, *, grace_period_seconds: int | None = None) -> Deployment:
        return self._command(deployment_id, "stop", {"grace_period_seconds": grace_period_seconds})

    def cancel(self, deployment_id: int) -> Deployment:
        return self._command(deployment_id, "cancel")

    def logs(
        self, deployment_id: int, *, tail: int = 100, attempt: int | None = None, replica: int | None = None
    ) -> str:
        """The last `tail` lines of an attempt (the latest unless said), of the first replica unless said."""
        params: Params = {"tail": tail, "attempt": attempt, "replica": replica}
        return self._transport.get(f"/deployments/{deployment_id}/logs", params) or ""

    def follow_logs(
        self, deployment_id: int, *, tail: int = 100, attempt: int | None = None, replica: int | None = None
    ) -> LogStream:
        """Lines as they are written, until the attempt has ended."""
        params: Params = {"tail": tail, "attempt": attempt, "replica": replica, "follow": True}
        return LogStream(self._transport, f"/deployments/{deployment_id}/logs", params)

    def events(self, deployment_id: int) -> list[Event]:
        """Its whole history, oldest first."""
        return list(self._transport.pages(f"/deployments/{deployment_id}/events"))

    def attempts(self, deployment_id: int) -> list[Attempt]:
        return list(self._transport.pages(f"/deployments/{deployment_id}/attempts"))

    def explain(self, deployment_id: int) -> Explanation:
        """Why it is where it is: reason, shortfall, suggestion, who is ahead, preemption receipts."""
        explanation: Explanation = self._transport.get(f"/deployments/{deployment_id}/explain")
        return explanation

    def wait(
        self,
        deployment_id: int,
        done: Callable[[Deployment], bool],
        *,
        within: float | None = None,
        every: float = 0.3,
        seen: Callable[[Deployment], None] | None = None,
    ) -> Deployment:
        """Look every `every` seconds until `done`; `seen` is told of each look.

        Raises TimeoutError (with the last state) after `within` seconds.
        """
        deadline = None if within is None else time.monotonic() + within
        while True:
            deployment = self.get(deployment_id)
            if seen is not None:
                seen(deployment)
            if done(deployment):
                return deployment
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{deployment['name']} is still {deployment['status']}")
            time.sleep(every)

    def _command(self, deployment_id: int, command: str, params: Params | None = None) -> Deployment:
        path = f"/deployments/{deployment_id}/{command}"
        deployment: Deployment = self._transport.send("POST", path, params=params)
        return deployment


def has_ended(deployment: Deployment) -> bool:
    return deployment["status"] in ENDED


def has_settled(deployment: Deployment) -> bool:
    """A service arrives by running, a job by its end; whatever has ended has arrived too."""
    return has_ended(deployment) or (deployment["kind"] == "service" and deployment["status"] == "RUNNING")
