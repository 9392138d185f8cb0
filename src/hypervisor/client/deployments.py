"""Deployments: submission, queries, commands, logs, waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hypervisor.client.errors import ApiError, Unreachable
from hypervisor.client.models import Attempt, Deployment, Event, Explanation, Page
from hypervisor.client.outages import Outage
from hypervisor.client.records import check_content_type, records
from hypervisor.client.scheduler_models import Forecast
from hypervisor.client.states import ENDED
from hypervisor.client.streams import LogStream
from hypervisor.client.transport import TIMEOUT, Params, Transport

ALL_LINES = 1_000_000_000
"""The `tail` for the whole output. Without `tail` the API sends the last 100 lines."""

Fields = Mapping[str, Any]
"""Request fields by API name. The server has defaults for missing fields."""


class Deployments:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, fields: Fields, *, idempotency_key: str | None = None) -> Deployment:
        """Submit a deployment. A repeated `idempotency_key` with the same fields returns the first one."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        deployment: Deployment = self._transport.post("/deployments", fields, headers=headers)
        return deployment

    def create_batch(self, deployments: Sequence[Fields]) -> list[Deployment]:
        """Submit up to 1,000 deployments, all or none. `depends_on` may name others of the batch."""
        response = self._transport.post("/deployments/batch", {"deployments": list(deployments)})
        created: list[Deployment] = records(self._transport.url, response["items"])
        return created

    def plan(self, fields: Fields) -> Forecast:
        """A forecast for a deployment that is not submitted."""
        forecast: Forecast = self._transport.post("/deployments/plan", fields)
        return forecast

    def page(self, filters: Params | None = None) -> Page[Deployment]:
        """One page, newest first. A page may be short; only a page without `next_cursor` is the last.

        Filters: organization_id, cluster_id, state, priority, label, name, limit, cursor.
        """
        page: Page[Deployment] = self._transport.page("/deployments", filters)
        return page

    def find(self, filters: Params | None = None, *, limit: int | None = None) -> list[Deployment]:
        """The matching deployments of all pages, newest first, at most `limit`."""
        return self._transport.first("/deployments", filters, limit)

    def get(self, deployment_id: int) -> Deployment:
        deployment: Deployment = self._transport.get(f"/deployments/{deployment_id}")
        return deployment

    def update(self, deployment_id: int, fields: Fields) -> Deployment:
        deployment: Deployment = self._transport.patch(f"/deployments/{deployment_id}", fields)
        return deployment

    def delete(self, deployment_id: int, *, force: bool = False) -> bool:
        """True when it is deleted, False when it is being stopped first.

        Refused (409) while other deployments wait for it; `force` cancels those.
        """
        return self._transport.delete(f"/deployments/{deployment_id}", {"force": force})

    def start(self, deployment_id: int) -> Deployment:
        """Queue an ended deployment again."""
        return self._command(deployment_id, "start")

    def stop(self, deployment_id: int, *, grace_period_seconds: int | None = None) -> Deployment:
        return self._command(deployment_id, "stop", {"grace_period_seconds": grace_period_seconds})

    def cancel(self, deployment_id: int) -> Deployment:
        return self._command(deployment_id, "cancel")

    def logs(
        self,
        deployment_id: int,
        *,
        tail: int | None = None,
        attempt: int | None = None,
        replica: int | None = None,
    ) -> str:
        """The output, or its last `tail` lines; default: of the first replica of the latest attempt.

        The text ends with a newline if the last line does. Bytes that are not UTF-8 become U+FFFD.
        """
        output = self.log_bytes(deployment_id, tail=tail, attempt=attempt, replica=replica)
        return b"".join(output).decode(errors="replace")

    def log_bytes(
        self,
        deployment_id: int,
        *,
        tail: int | None = None,
        attempt: int | None = None,
        replica: int | None = None,
    ) -> Iterator[bytes]:
        """As `logs`, but the bytes that the workload wrote, in chunks: for a file, or a large log."""
        params: Params = {"tail": _lines(tail), "attempt": attempt, "replica": replica}
        path = f"/deployments/{deployment_id}/logs"
        with self._transport.stream(path, params=params, timeout=TIMEOUT) as response:
            check_content_type(self._transport.url, response, "text/plain")
            yield from response.iter_bytes()

    def follow_logs(
        self,
        deployment_id: int,
        *,
        tail: int | None = None,
        attempt: int | None = None,
        replica: int | None = None,
    ) -> LogStream:
        """As `logs`, and new lines until the attempt ends; over restarts of the server too."""
        params: Params = {"tail": _lines(tail), "attempt": attempt, "replica": replica, "follow": True}
        return LogStream(self._transport, f"/deployments/{deployment_id}/logs", params)

    def events(self, deployment_id: int) -> list[Event]:
        """All events of the deployment, oldest first."""
        return list(self._transport.pages(f"/deployments/{deployment_id}/events"))

    def attempts(self, deployment_id: int) -> list[Attempt]:
        return list(self._transport.pages(f"/deployments/{deployment_id}/attempts"))

    def explain(self, deployment_id: int) -> Explanation:
        """The reason for its state: shortfall, suggestion, deployments ahead, preemption receipts."""
        explanation: Explanation = self._transport.get(f"/deployments/{deployment_id}/explain")
        return explanation

    def wait(
        self,
        deployment_id: int,
        done: Callable[[Deployment], bool],
        *,
        timeout: float | None = None,
        interval: float = 0.3,
    ) -> Deployment:
        """Poll every `interval` seconds until `done` returns True, and return the deployment.

        Goes on while the server does not answer, see `RetryPolicy`. Raises TimeoutError, with the last state,
        after `timeout` seconds, ServerAway when the server is away for too long.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        outage, known = Outage(self._transport.retry), f"deployment {deployment_id} is not known"
        while True:
            try:
                deployment = self.get(deployment_id)
            except (Unreachable, ApiError) as error:
                outage.survive(error, at_most=deadline - time.monotonic())
            else:
                outage.ended()
                if done(deployment):
                    return deployment
                known = f"{deployment['name']} is still {deployment['status']}"
                time.sleep(max(0.0, min(interval, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                raise TimeoutError(known)

    def _command(self, deployment_id: int, command: str, params: Params | None = None) -> Deployment:
        path = f"/deployments/{deployment_id}/{command}"
        deployment: Deployment = self._transport.send("POST", path, params=params)
        return deployment


def _lines(tail: int | None) -> int:
    return ALL_LINES if tail is None else tail


def has_ended(deployment: Deployment) -> bool:
    """Whether the deployment is in a final state."""
    return deployment["status"] in ENDED


def has_settled(deployment: Deployment) -> bool:
    """Whether a service runs or a job has ended; any deployment that has ended counts too."""
    return has_ended(deployment) or (deployment["kind"] == "service" and deployment["status"] == "RUNNING")
