"""kill -9 at every failpoint: nothing accepted is lost, nothing runs twice.

CHAOS_KILLS is the number of kills at each failpoint (2 in the suite, 10 in `make chaos`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hypervisor.kernel.failpoints import POINTS as ALL_POINTS
from tests.chaos.rig import Rig
from tests.chaos.server import RECOVERY_TIMEOUT
from tests.support.wait import eventually_sync

KILLS = int(os.environ.get("CHAOS_KILLS", "2"))
POINTS = {point for point in ALL_POINTS if not point.startswith("end_")}
"""The failpoints that processes reach. The others are in `test_engines.py`."""
LEASE_SECONDS = "3"
"""The minimum of the setting; leases are then renewed every two seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * KILLS)]


def test_a_server_killed_at_any_failpoint_loses_and_duplicates_nothing(rig: Rig) -> None:
    rig.server.stop()
    for number in range(KILLS):
        for point in sorted(POINTS):
            _crash_at(rig, point)
        rig.expire_leases()
        rig.server.start()
        rig.settle()
        print(f"round {number + 1} of {KILLS}: {len(POINTS)} kills, {len(rig.ledger.accepted)} accepted")
        rig.server.stop()
    print(f"{KILLS * len(POINTS)} kills at {len(POINTS)} failpoints: {rig.summary()}")


def _crash_at(rig: Rig, point: str) -> None:
    """Start a server that dies at this failpoint, trigger the failpoint, and check the invariants."""
    rig.expire_leases()
    rig.server.start(f"{point}=kill", LEASE_SECONDS=LEASE_SECONDS)
    stimulus = next(action for prefix, action in STIMULI.items() if point.startswith(prefix))

    def is_dead() -> bool:
        if rig.server.is_alive:
            stimulus(rig)
        return not rig.server.is_alive

    eventually_sync(is_dead, within=RECOVERY_TIMEOUT, every=0.2, what=f"the server dies at {point}")
    rig.check()


def _submit(rig: Rig) -> None:
    rig.submit(command=["true"])


def _stop(rig: Rig) -> None:
    service = rig.submit(command=["sleep", "1000"], kind="service", priority="LOW")
    if service is not None:
        rig.request_or_ignore(lambda client: client.deployments.cancel(service))


def _delete(rig: Rig) -> None:
    job = rig.submit(command=["true"])
    if job is not None:
        rig.delete(job)


def _preempt(rig: Rig) -> None:
    full_node = {"cluster_id": rig.small, "required_cpu_cores": 1}
    low_priority = rig.submit(command=["sleep", "5"], priority="LOW", **full_node)
    if low_priority is not None:
        rig.reaches(low_priority, "RUNNING", "SUCCEEDED", or_death=True)
        rig.submit(command=["true"], priority="HIGH", **full_node)


def _join(rig: Rig) -> None:
    organization = rig.request(lambda client: client.organizations.all())
    if organization:
        code = rig.request(lambda client: client.organizations.regenerate_invite(organization[0]["id"]))
        if code:
            rig.request(lambda client: client.organizations.join(code["invite_code"]), user="bob")


def _refresh(rig: Rig) -> None:
    rig.refresh()


def _wait(rig: Rig) -> None:
    """Leases are renewed without a request."""


STIMULI: dict[str, Callable[[Rig], None]] = {
    "stop_": _stop,
    "delete_": _delete,
    "preempt_": _preempt,
    "invite_": _join,
    "refresh_": _refresh,
    "lease_": _wait,
    "": _submit,
}
