"""Waiting for deployments, with progress on stderr: a live line on a terminal, else one line per change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import duration
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.client import ApiError, Unreachable
from hypervisor.client.models import Deployment
from hypervisor.client.outages import Outage

POLL_SECONDS = 0.3


class Progress:
    """Polls deployments and reports state changes on stderr; silent with --json."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reported: dict[int, tuple[str, str | None]] = {}
        self._started = time.monotonic()

    def wait_for(
        self,
        deployments: Sequence[Deployment],
        done: Callable[[Deployment], bool],
        *,
        timeout: float | None = None,
    ) -> list[Deployment]:
        """Poll until every deployment is done and return their last state, in order.

        Raises CommandFailed after `timeout` seconds.
        """
        if self._session.as_json or not is_interactive(self._session.errors):
            return self._poll(deployments, done, timeout, lambda _text: None)
        with self._session.errors.status("submitted") as status:
            return self._poll(deployments, done, timeout, status.update)

    def _poll(
        self,
        deployments: Sequence[Deployment],
        done: Callable[[Deployment], bool],
        timeout: float | None,
        show: Callable[[str], None],
    ) -> list[Deployment]:
        latest = {deployment["id"]: deployment for deployment in deployments}
        outage = Outage(self._session.client.retry)
        while True:
            pending = [deployment for deployment in latest.values() if not done(deployment)]
            if not pending:
                # The caller prints the last states.
                return list(latest.values())
            for deployment in latest.values():
                self._report(deployment)
            waited = self._waited
            if timeout is not None and waited >= timeout:
                states = ", ".join(f"{waiting['name']} is {waiting['status']}" for waiting in pending)
                raise CommandFailed(f"timed out after {duration(waited)}: {states}")
            show(f"{_summary(pending)} ({duration(waited)})")
            time.sleep(POLL_SECONDS)
            try:
                for waiting in pending:
                    latest[waiting["id"]] = self._session.client.deployments.get(waiting["id"])
            except (Unreachable, ApiError) as error:
                outage.survive(error, at_most=None if timeout is None else timeout - self._waited)
            else:
                outage.ended()

    @property
    def _waited(self) -> float:
        return time.monotonic() - self._started

    def _report(self, deployment: Deployment) -> None:
        status, reason = deployment["status"], deployment.get("reason")
        if self._reported.get(deployment["id"]) == (status, reason):
            return
        self._reported[deployment["id"]] = (status, reason)
        details = f" - {reason}" if reason else ""
        node = f" on {deployment['node_name']}" if deployment.get("node_name") else ""
        self._session.note(f"{deployment['name']}: {status}{node}{details}")


def _summary(deployments: Sequence[Deployment]) -> str:
    first = deployments[0]
    more = f" and {len(deployments) - 1} more" if len(deployments) > 1 else ""
    return f"waiting: {first['name']} {first['status']}{more}"
