"""Failpoints are off unless both variables are set; each action works, and each point is in the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.errors import StartupError
from hypervisor.infra.failpoints import FailpointReached, arm
from hypervisor.kernel import failpoints

SOURCES = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.install(None)


def _armed(text: str) -> None:
    arm({"HYPERVISOR_FAILPOINTS": text, "HYPERVISOR_TESTING": "1"})


def test_nothing_happens_without_the_variable() -> None:
    arm({"HYPERVISOR_TESTING": "1"})
    for point in failpoints.POINTS:
        failpoints.reached(point)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HYPERVISOR_FAILPOINTS": "plan_before_lock=kill"}, "HYPERVISOR_TESTING=1"),
        ({"HYPERVISOR_FAILPOINTS": "nowhere=kill", "HYPERVISOR_TESTING": "1"}, "nowhere"),
        ({"HYPERVISOR_FAILPOINTS": "plan_before_lock=explode", "HYPERVISOR_TESTING": "1"}, "explode"),
        ({"HYPERVISOR_FAILPOINTS": "plan_before_lock=pause:x", "HYPERVISOR_TESTING": "1"}, "pause:x"),
        ({"HYPERVISOR_FAILPOINTS": "plan_before_lock=kill@x", "HYPERVISOR_TESTING": "1"}, "'x'"),
    ],
)
def test_a_forbidden_or_invalid_failpoint_stops_the_start(environment: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        arm(environment)


def test_each_point_has_its_own_action_from_its_pass_on() -> None:
    _armed("stop_before_call=raise@2, stop_after_call=drop")
    failpoints.reached("stop_before_call")
    for _ in range(2):
        with pytest.raises(FailpointReached):
            failpoints.reached("stop_before_call")
    with pytest.raises(TimeoutError):
        failpoints.reached("stop_after_call")
    failpoints.reached("plan_before_lock")


def test_kill_is_kill_9() -> None:
    script = (
        "from hypervisor.infra.failpoints import arm; from hypervisor.kernel.failpoints import reached; "
        "arm({'HYPERVISOR_FAILPOINTS': 'gc_before_remove=kill', 'HYPERVISOR_TESTING': '1'}); "
        "reached('gc_before_remove')"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -9


def test_every_point_is_marked_somewhere_and_no_other() -> None:
    marks: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        parts = path.read_text().split('reached("')[1:]
        marks |= {part.split('"')[0] for part in parts}
    assert marks == failpoints.POINTS
