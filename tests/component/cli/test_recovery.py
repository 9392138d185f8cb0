"""After a loss: a new SECRET_KEY needs to be accepted, and the engine of a lost machine is released."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from hypervisor.cli.main import run
from hypervisor.errors import StartupError
from hypervisor.lifecycle.states import State
from hypervisor.store.database import Database
from hypervisor.store.tables import EngineState, Event
from tests.support.api import ok, refused, running_api
from tests.support.world import new_world, simulated

OLD, NEW = "the old key with at least 32 characters", "the new key with at least 32 characters"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command line on the database: its exit code, output and error."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


async def test_another_key_is_refused_until_it_is_accepted(
    database_url: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    async with running_api(database_url, data_dir, secret_key=OLD) as api:
        admin = await api.person("ada")
        organization = await admin.organization("lab")
    with pytest.raises(StartupError) as refusal:
        async with running_api(database_url, data_dir, secret_key=NEW):
            pass
    assert "set the SECRET_KEY" in str(refusal.value)
    assert "hypervisor replace-key" in str(refusal.value)
    async with running_api(database_url, data_dir, secret_key=OLD):
        pass

    monkeypatch.setenv("SECRET_KEY", NEW)
    code, out, _ = await asyncio.to_thread(command, "--json", "replace-key")
    assert (code, json.loads(out)["revoked_invites"]) == (0, 1)
    async with running_api(database_url, data_dir, secret_key=NEW) as api:
        admin = await api.log_in("ada")
        refused(await admin.get(f"/api/v1/organizations/{organization}/invite-code"), 404, "no_invite")
        assert (await admin.invite(organization)).strip()
        events = ok(await admin.get(f"/api/v1/organizations/{organization}/events"))["items"]
        assert "invite.revoked" in {event["type"] for event in events}
    with pytest.raises(StartupError):
        async with running_api(database_url, data_dir, secret_key=OLD):
            pass
    code, out, _ = await asyncio.to_thread(command, "--json", "replace-key")
    assert (code, json.loads(out)["revoked_invites"]) == (0, 0)


async def test_an_engine_of_a_lost_machine_is_released(
    database_url: str, tmp_path: Path, command: Command
) -> None:
    async with new_world(database_url, tmp_path) as world:
        cluster = await world.cluster()
        async with world.loops():
            await world.reaches(await world.submit(cluster, **simulated()), State.RUNNING)
    database = Database(database_url)
    async with database.write() as session:
        engine = update(EngineState).where(EngineState.runtime == "simulated")
        await session.execute(engine.values(engine_identity="the lost machine"))
    code, _, error = await asyncio.to_thread(command, "release-engine", "docker", "tcp://gpu-7:2376")
    assert code == 1
    assert error.startswith("error: no engine docker tcp://gpu-7:2376 has an identity; engines with one: ")
    assert "simulated" in error
    code, out, _ = await asyncio.to_thread(command, "release-engine", "simulated")
    assert (code, out) == (0, "The engine simulated is released from its machine.\n")
    async with database.read() as session:
        found = select(EngineState.engine_identity).where(EngineState.runtime == "simulated")
        assert await session.scalar(found) is None
        assert "engine.released" in set(await session.scalars(select(Event.type)))
    code, _, error = await asyncio.to_thread(command, "release-engine", "simulated")
    assert code == 1
    assert error.startswith("error: no engine simulated has an identity; ")
    await database.close()


def test_a_missing_file_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    assert run(["release-engine", "process"]) == 1
    assert "there is no database at" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
