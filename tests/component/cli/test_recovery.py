"""After a loss: a new SECRET_KEY needs to be accepted, and the engine of a lost machine is released."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from hypervisor.cli.main import run
from hypervisor.deployments.schemas.requests import SecretValue
from hypervisor.deployments.spec.environment import decrypt_environment, encrypt_environment, rekeyed
from hypervisor.errors import StartupError
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.lifecycle.states import State
from hypervisor.store.database import Database
from hypervisor.store.file_lock import sole_server
from hypervisor.store.tables import EngineState, Event, Server
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
        size = {"total_cpu_cores": 4, "total_ram_gb": 8}
        ok(await admin.post("/api/v1/clusters", {"name": "c", "organization_id": organization, **size}), 201)
        sealed = {"value": "hush", "secret": True}
        body = {"name": "sealed", "env": {"OPEN": "o", "TOKEN": sealed, "PIN": sealed}}
        deployment = ok(await admin.post("/api/v1/deployments", body), 201)["id"]
    with pytest.raises(StartupError) as refusal:
        async with running_api(database_url, data_dir, secret_key=NEW):
            pass
    assert "set the SECRET_KEY" in str(refusal.value)
    assert "hypervisor replace-key" in str(refusal.value)
    async with running_api(database_url, data_dir, secret_key=OLD):
        pass

    monkeypatch.setenv("SECRET_KEY", NEW)
    code, _, error = await asyncio.to_thread(command, "replace-key")
    assert code == 1
    assert "cannot decrypt 1 invite code(s) and 2 secret value(s)" in error
    code, out, _ = await asyncio.to_thread(command, "--json", "replace-key", "--force")
    assert code == 0
    result = json.loads(out)
    assert (result["revoked_invites"], result["lost_secrets"]) == (1, 2)
    assert result["deployments"] == [{"id": deployment, "name": "sealed", "secrets": ["TOKEN", "PIN"]}]
    for wrong in (OLD, "a third key with at least 32 characters"):
        with pytest.raises(StartupError):
            async with running_api(database_url, data_dir, secret_key=wrong):
                pass
    async with running_api(database_url, data_dir, secret_key=NEW) as api:
        admin = await api.log_in("ada")
        refused(await admin.get(f"/api/v1/organizations/{organization}/invite-code"), 404, "no_invite")
        assert (await admin.invite(organization)).strip()
        events = ok(await admin.get(f"/api/v1/organizations/{organization}/events"))["items"]
        assert "invite.revoked" in {event["type"] for event in events}
        (lost,) = (event for event in events if event["type"] == "deployment.secrets_lost")
        assert lost["deployment_id"] == deployment
        assert "TOKEN, PIN again" in lost["message"]
    with pytest.raises(StartupError):
        async with running_api(database_url, data_dir, secret_key=OLD):
            pass
    code, out, _ = await asyncio.to_thread(command, "replace-key")
    assert (code, out.endswith("is right: there is nothing to do.\n")) == (0, True)


async def test_a_key_is_never_invented(database_url: str, tmp_path: Path, command: Command) -> None:
    data_dir = tmp_path / "data"
    async with running_api(database_url, tmp_path / "right", secret_key=OLD) as api:
        organization = await (await api.person("ada")).organization("lab")
    code, _, error = await asyncio.to_thread(command, "replace-key", "--force")
    assert code == 1
    assert "SECRET_KEY is not set and" in error
    assert not data_dir.exists()
    async with running_api(database_url, data_dir, secret_key=OLD) as api:
        admin = await api.log_in("ada")
        ok(await admin.get(f"/api/v1/organizations/{organization}/invite-code"))


async def test_a_key_is_not_replaced_under_a_running_server(
    database_url: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(database_url, tmp_path / "data", secret_key=OLD) as api:
        await (await api.person("ada")).organization("lab")
    database = Database(database_url)
    now = datetime.now(UTC)
    async with database.write() as session:
        alive = now + timedelta(hours=1)
        session.add(Server(name="s", host="gpu-7", excluded_leases=[], started_at=now, expires_at=alive))
    await database.close()
    monkeypatch.setenv("SECRET_KEY", NEW)
    with sole_server(database_url):
        code, _, error = await asyncio.to_thread(command, "replace-key", "--force")
    assert code == 1
    assert "uses" in error
    async with running_api(database_url, tmp_path / "data", secret_key=OLD):
        pass


def test_lost_values_come_back_with_their_key() -> None:
    old, new = Encryptor(OLD.encode()), Encryptor(NEW.encode())
    stored = encrypt_environment({"A": SecretValue(value="hush", secret=True), "B": "b"}, old)
    with pytest.raises(DecryptionError, match="of A were lost with the old SECRET_KEY: set them again"):
        decrypt_environment(rekeyed(stored, new), new)
    assert rekeyed(rekeyed(stored, new), old) == stored


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
