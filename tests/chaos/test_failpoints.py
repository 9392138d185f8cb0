"""kill -9 at every failpoint, one history for all of them: nothing accepted is lost, nothing runs twice.

CHAOS_KILLS says how often at each (2 in the suite, 10 by `make chaos`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hypervisor.kernel.failpoints import POINTS
from tests.chaos.rig import Rig
from tests.chaos.server import RECOVERS_WITHIN
from tests.support.wait import eventually_sync

KILLS = int(os.environ.get("CHAOS_KILLS", "2"))
LEASE_SECONDS = "3"
"""The shortest that may be set; a renewal comes every two seconds then."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * KILLS)]


def test_a_server_that_is_killed_anywhere_loses_and_doubles_nothing(rig: Rig) -> None:
    rig.server.stop()
    for number in range(KILLS):
        for point in sorted(POINTS):
            _strike(rig, point)
        rig.expire_leases()
        rig.server.start()
        rig.settle()
        print(f"round {number + 1} of {KILLS}: {len(POINTS)} kills, {len(rig.ledger.accepted)} accepted")
        rig.server.stop()
    print(f"{KILLS * len(POINTS)} kills at {len(POINTS)} failpoints: {rig.tally()}")


def _strike(rig: Rig, point: str) -> None:
    """Start a server that dies at this point, lead it there, and look at what it leaves behind."""
    rig.expire_leases()
    rig.server.start(f"{point}=kill", LEASE_SECONDS=LEASE_SECONDS)
    stimulus = next(work for prefix, work in STIMULI.items() if point.startswith(prefix))

    def dead() -> bool:
        if rig.server.is_alive:
            stimulus(rig)
        return not rig.server.is_alive

    eventually_sync(dead, within=RECOVERS_WITHIN, every=0.2, what=f"the server dies at {point}")
    rig.check()


def _submit(rig: Rig) -> None:
    rig.submit(command=["true"])


def _stop(rig: Rig) -> None:
    service = rig.submit(command=["sleep", "1000"], kind="service", priority="LOW")
    if service is not None:
        rig.ask_in_vain(lambda client: client.deployments.cancel(service))


def _delete(rig: Rig) -> None:
    made = rig.submit(command=["true"])
    if made is not None:
        rig.delete(made)


def _preempt(rig: Rig) -> None:
    whole = {"cluster_id": rig.small, "required_cpu_cores": 1}
    low = rig.submit(command=["sleep", "5"], priority="LOW", **whole)
    if low is not None:
        rig.reaches(low, "RUNNING", "SUCCEEDED", or_death=True)
        rig.submit(command=["true"], priority="HIGH", **whole)


def _join(rig: Rig) -> None:
    organization = rig.ask(lambda client: client.organizations.all())
    if organization:
        code = rig.ask(lambda client: client.organizations.regenerate_invite(organization[0]["id"]))
        if code:
            rig.ask(lambda client: client.organizations.join(code["invite_code"]), who="bob")


def _refresh(rig: Rig) -> None:
    rig.refresh()


def _wait(rig: Rig) -> None:
    """Leases are renewed without anybody's doing."""


STIMULI: dict[str, Callable[[Rig], None]] = {
    "stop_": _stop,
    "delete_": _delete,
    "preempt_": _preempt,
    "invite_": _join,
    "refresh_": _refresh,
    "lease_": _wait,
    "": _submit,
}
