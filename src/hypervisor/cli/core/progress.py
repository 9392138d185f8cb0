"""Following deployments while a person waits: a moving line on a terminal, one line a change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import duration
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.client.models import Deployment

LOOK_EVERY = 0.3
"""Seconds between two looks."""


class Progress:
    """Tells on stderr what changes; silent where JSON was asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told: dict[int, tuple[str, str | None]] = {}
        self._began = time.monotonic()

    def wait_for(
        self,
        deployments: Sequence[Deployment],
        done: Callable[[Deployment], bool],
        *,
        within: float | None = None,
    ) -> list[Deployment]:
        """Look until every one is done; how they are then, in order. Raises CommandFailed when time is up."""
        if self._session.as_json or not is_interactive(self._session.errors):
            return self._look_until(deployments, done, within, lambda _text: None)
        with self._session.errors.status("submitted") as status:
            return self._look_until(deployments, done, within, status.update)

    def _look_until(
        self,
        deployments: Sequence[Deployment],
        done: Callable[[Deployment], bool],
        within: float | None,
        show: Callable[[str], None],
    ) -> list[Deployment]:
        latest = {each["id"]: each for each in deployments}
        while True:
            for deployment in latest.values():
                self._tell(deployment)
            open_ones = [each for each in latest.values() if not done(each)]
            if not open_ones:
                return list(latest.values())
            waited = time.monotonic() - self._began
            if within is not None and waited >= within:
                names = ", ".join(f"{each['name']} is {each['status']}" for each in open_ones)
                raise CommandFailed(f"gave up after {duration(waited)}: {names}")
            show(f"{_summary(open_ones)} ({duration(waited)})")
            time.sleep(LOOK_EVERY)
            for each in open_ones:
                latest[each["id"]] = self._session.client.deployments.get(each["id"])

    def _tell(self, deployment: Deployment) -> None:
        now = (deployment["status"], deployment.get("reason"))
        if self._told.get(deployment["id"]) == now:
            return
        self._told[deployment["id"]] = now
        reason = f" - {now[1]}" if now[1] else ""
        node = f" on {deployment['node_name']}" if deployment.get("node_name") else ""
        self._session.note(f"{deployment['name']}: {now[0]}{node}{reason}")


def _summary(deployments: Sequence[Deployment]) -> str:
    first = deployments[0]
    more = f" and {len(deployments) - 1} more" if len(deployments) > 1 else ""
    return f"waiting: {first['name']} {first['status']}{more}"
