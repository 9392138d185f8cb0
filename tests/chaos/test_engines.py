"""A Docker engine that dies under running containers, and people who kill and remove them without asking us.

The engine is one of the test's own: the machine's goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.rig import Rig, cancelling, rig_on
from tests.chaos.server import RECOVERS_WITHIN
from tests.support.docker import Api
from tests.support.own_engine import endpoint_of, own_engine, short_folder
from tests.support.wait import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(900)]

SLEEPS = ["sleep", "100000"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as short:
        yield short


def test_an_engine_that_dies_and_comes_back_ends_nothing_and_doubles_nothing(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    with own_engine(folder, "--live-restore") as start_engine:
        engine, api = start_engine(), Api(endpoint_of(folder))
        with rig_on(tmp_path / "rig", postgresql_url, engine=api) as rig:
            victims = _harm_containers(rig, api)
            with _deployments_come_and_go(rig):
                engine.kill()
                engine.wait()
                waits = rig.submit(command=["true"])
                eventually_sync(lambda: _is_noticed(rig), within=RECOVERS_WITHIN, what="the engine is away")
                assert waits is not None
                rig.reaches(waits, "QUEUED", "STARTING")
                start_engine()
            rig.reaches(waits, "SUCCEEDED")
            for victim in victims:
                rig.reaches(victim, "RUNNING")
            rig.settle()
            _was_run_once(rig, waits)


def test_an_engine_that_ends_its_containers_is_told_from_one_that_cannot_be_asked(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    with own_engine(folder) as start_engine:
        engine = start_engine()
        with rig_on(tmp_path / "rig", postgresql_url, engine=Api(endpoint_of(folder))) as rig:
            once = rig.submit(command=SLEEPS, restart_policy="never")
            again = rig.submit(command=SLEEPS, restart_policy="on-failure", max_retries=1)
            assert once is not None
            assert again is not None
            rig.reaches(once, "RUNNING")
            rig.reaches(again, "RUNNING")
            rig.give_up_the_guardian()
            engine.kill()
            engine.wait()
            eventually_sync(lambda: _is_noticed(rig), within=RECOVERS_WITHIN, what="the engine is away")
            for one in (once, again):
                rig.reaches(one, "RUNNING")
            start_engine()
            rig.reaches(once, "FAILED")
            rig.reaches(again, "RUNNING")
            rig.settle()


def _harm_containers(rig: Rig, api: Api) -> list[int]:
    """Kill some and remove some behind our back, running ones; those that are to run again."""
    jobs = {
        (harm, policy): rig.submit(command=SLEEPS, restart_policy=policy, max_retries=retries)
        for harm in ("kill", "remove")
        for policy, retries in (("never", 0), ("on-failure", 1))
    }
    for job in jobs.values():
        assert job is not None
        rig.reaches(job, "RUNNING")
    for (harm, _), job in jobs.items():
        (name,) = [one for one in rig.alive() if one.endswith(f"-{job}-1-0")]
        if harm == "kill":
            api.call("POST", f"/containers/{name}/kill?signal=KILL")
        else:
            api.call("DELETE", f"/containers/{name}?force=1")
    for (harm, policy), job in jobs.items():
        _is_judged(rig, int(job or 0), harm, policy)
    return [int(job or 0) for (_, policy), job in jobs.items() if policy == "on-failure"]


def _is_judged(rig: Rig, job: int, harm: str, policy: str) -> None:
    """The first attempt ended as what it was, and the policy was followed."""
    events = eventually_sync(lambda: _moves_from_running(rig, job), within=RECOVERS_WITHIN, every=0.1)
    first = rig.ask(lambda client: client.deployments.attempts(job))[0]
    outcome, words = ("failed", "ended by signal 9") if harm == "kill" else ("lost", "the instance is gone")
    assert first["outcome"] == outcome
    assert words in events[0]["message"]
    assert events[0]["to_state"] == ("FAILED" if policy == "never" else "QUEUED")
    assert ("retry 1 of 1" in events[0]["message"]) == (policy == "on-failure")


def _moves_from_running(rig: Rig, job: int) -> list[Any]:
    events = rig.ask(lambda client: client.deployments.events(job))
    return [one for one in events if one["from_state"] == "RUNNING"]


@contextmanager
def _deployments_come_and_go(rig: Rig) -> Iterator[None]:
    over = threading.Event()

    def ask() -> None:
        random = Random(1)
        while not over.is_set():
            made = rig.submit(command=["sleep", str(random.choice((0, 0.2)))])
            if made is not None and random.random() < 0.3:
                rig.ask_in_vain(cancelling(made))
            over.wait(0.5)

    somebody = threading.Thread(target=ask)
    somebody.start()
    try:
        yield
    finally:
        over.set()
        somebody.join()


def _is_noticed(rig: Rig) -> bool:
    return "engine.unreachable" in rig.server.log.read_text()


def _was_run_once(rig: Rig, job: int) -> None:
    (attempt,) = rig.ask(lambda client: client.deployments.attempts(job))
    assert attempt["outcome"] == "succeeded"
