"""A Docker engine that dies under running containers, and containers that are killed or removed by others.

The test starts its own engine; the machine's engine is not affected.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hypervisor.kernel.failpoints import POINTS
from tests.chaos.rig import Rig, cancelling, running_rig
from tests.chaos.server import RECOVERY_TIMEOUT
from tests.support.docker import Api
from tests.support.own_engine import endpoint_of, own_engine, short_folder
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(900)]

SLEEPS = ["sleep", "100000"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as short:
        yield short


def test_a_restart_of_the_engine_ends_and_duplicates_nothing(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    with own_engine(folder, "--live-restore") as start_engine:
        engine, api = start_engine(), Api(endpoint_of(folder))
        with running_rig(tmp_path / "rig", postgresql_url, engine=api) as rig:
            victims = _end_containers(rig, api)
            with _background_load(rig):
                engine.kill()
                engine.wait()
                queued_job = rig.submit(command=["true"])
                eventually_sync(lambda: _is_reported(rig), within=RECOVERY_TIMEOUT, what="the engine is away")
                assert queued_job is not None
                rig.reaches(queued_job, "QUEUED", "STARTING")
                start_engine()
            rig.reaches(queued_job, "SUCCEEDED")
            for victim in victims:
                rig.reaches(victim, "RUNNING")
            rig.settle()
            _ran_once(rig, queued_job)


def test_containers_that_end_with_their_engine_are_concluded_only_when_it_is_back(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    with own_engine(folder) as start_engine:
        engine = start_engine()
        with running_rig(tmp_path / "rig", postgresql_url, engine=Api(endpoint_of(folder))) as rig:
            once = rig.submit(command=SLEEPS, restart_policy="never")
            again = rig.submit(command=SLEEPS, restart_policy="on-failure", max_retries=1)
            assert once is not None
            assert again is not None
            rig.reaches(once, "RUNNING")
            rig.reaches(again, "RUNNING")
            rig.release_canary()
            engine.kill()
            engine.wait()
            eventually_sync(lambda: _is_reported(rig), within=RECOVERY_TIMEOUT, what="the engine is away")
            for job in (once, again):
                rig.reaches(job, "RUNNING")
            start_engine()
            rig.reaches(once, "FAILED")
            rig.reaches(again, "RUNNING")
            rig.settle()


def test_a_server_killed_at_the_removal_of_an_ended_container_loses_no_end(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    with own_engine(folder) as start_engine:
        start_engine()
        with running_rig(tmp_path / "rig", postgresql_url, engine=Api(endpoint_of(folder))) as rig:
            rig.server.stop()
            jobs = []
            for point in sorted(point for point in POINTS if point.startswith("end_")):
                rig.expire_leases()
                rig.server.start(f"{point}=kill")
                jobs.append(rig.submit(command=["true"]))
                eventually_sync(lambda: not rig.server.is_alive, within=RECOVERY_TIMEOUT, what=point)
                rig.check()
            rig.expire_leases()
            rig.server.start()
            for job in jobs:
                assert job is not None
                rig.reaches(job, "SUCCEEDED")
                _ran_once(rig, job)
            rig.settle()


def _end_containers(rig: Rig, api: Api) -> list[int]:
    """Kill and remove running containers on the engine; the jobs that must be retried."""
    jobs = {
        (action, policy): rig.submit(command=SLEEPS, restart_policy=policy, max_retries=retries)
        for action in ("kill", "remove")
        for policy, retries in (("never", 0), ("on-failure", 1))
    }
    for job in jobs.values():
        assert job is not None
        rig.reaches(job, "RUNNING")
    for (action, _), job in jobs.items():
        (name,) = [instance for instance in rig.alive() if instance.endswith(f"-{job}-1-0")]
        if action == "kill":
            api.call("POST", f"/containers/{name}/kill?signal=KILL")
        else:
            api.call("DELETE", f"/containers/{name}?force=1")
    for (action, policy), job in jobs.items():
        _check_outcome(rig, int(job or 0), action, policy)
    return [int(job or 0) for (_, policy), job in jobs.items() if policy == "on-failure"]


def _check_outcome(rig: Rig, job: int, action: str, policy: str) -> None:
    """Check the outcome of the first attempt and the restart policy."""
    events = eventually_sync(lambda: _moves_from_running(rig, job), within=RECOVERY_TIMEOUT, every=0.1)
    first = rig.request(lambda client: client.deployments.attempts(job))[0]
    outcome, text = ("failed", "exit code 137") if action == "kill" else ("lost", "the instance was lost")
    assert first["outcome"] == outcome
    assert text in events[0]["message"]
    assert events[0]["to_state"] == ("FAILED" if policy == "never" else "QUEUED")
    assert ("retry 1 of 1" in events[0]["message"]) == (policy == "on-failure")


def _moves_from_running(rig: Rig, job: int) -> list[Any]:
    events = rig.request(lambda client: client.deployments.events(job))
    return [job for job in events if job["from_state"] == "RUNNING"]


@contextmanager
def _background_load(rig: Rig) -> Iterator[None]:
    stopping = threading.Event()

    def send_requests() -> None:
        random = Random(1)
        while not stopping.is_set():
            job_id = rig.submit(command=["sleep", str(random.choice((0, 0.2)))])
            if job_id is not None and random.random() < 0.3:
                rig.request_or_ignore(cancelling(job_id))
            stopping.wait(0.5)

    client = threading.Thread(target=send_requests)
    client.start()
    try:
        yield
    finally:
        stopping.set()
        client.join()


def _is_reported(rig: Rig) -> bool:
    return "engine.unreachable" in rig.server.log.read_text()


def _ran_once(rig: Rig, job: int) -> None:
    (attempt,) = rig.request(lambda client: client.deployments.attempts(job))
    assert attempt["outcome"] == "succeeded"
