"""Upgrades: an old schema is migrated, and the previous version continues to work on the new schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, text

from hypervisor.errors import StartupError
from hypervisor.store.base import Base
from hypervisor.store.compatibility import ensure_usable, incompatibilities
from hypervisor.store.migrations.runner import current_revision, head_revision, on_connection, upgrade
from tests.support.api import Api, ok, running_api
from tests.support.releases import move_to, previous_revision

FUTURE = "UPDATE alembic_version SET version_num = 'future'"


async def execute(database_url: str, *statements: str) -> None:
    def run(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    await on_connection(database_url, run)


async def main_requests(api: Api, username: str) -> dict[str, object]:
    """Send the most frequent requests: account, organization, cluster, deployment, lists."""
    person = await api.person(username)
    organization = await person.organization(f"Team of {username}")
    cluster = {"organization_id": organization, "name": "lab", "total_cpu_cores": 2, "total_ram_gb": 2}
    cluster_id = ok(await person.post("/api/v1/clusters", cluster), 201)["id"]
    request = {"cluster_id": cluster_id, "name": "train", "command": ["true"], "required_cpu_cores": 1}
    created: dict[str, object] = ok(await person.post("/api/v1/deployments", request), 201)
    assert [item["id"] for item in ok(await person.get("/api/v1/deployments"))["items"]] == [created["id"]]
    assert ok(await person.get(f"/api/v1/deployments/{created['id']}/events"))["items"]
    ok(await person.post(f"/api/v1/deployments/{created['id']}/cancel"))
    return created


async def test_a_database_of_the_previous_version_is_migrated_and_serves(
    database_url: str, tmp_path: Path
) -> None:
    async with running_api(database_url, tmp_path, role="api") as api:
        created = await main_requests(api, "ada")
    await move_to(database_url, previous_revision(), down=True)

    if database_url.startswith("postgresql") and previous_revision() != head_revision():
        with pytest.raises(StartupError, match="hypervisor migrate"):
            await ensure_usable(database_url)
        await upgrade(database_url)
    async with running_api(database_url, tmp_path, role="api") as api:
        assert await current_revision(database_url) == head_revision()
        ada = await api.log_in("ada")
        assert ok(await ada.get(f"/api/v1/deployments/{created['id']}"))["name"] == "train"
        await main_requests(api, "bob")


async def test_the_previous_version_can_work_on_this_schema(empty_database_url: str) -> None:
    """A migration that fails here breaks servers of the previous version during the upgrade. A migration may
    only add; drop tables and columns one version later.
    """
    previous = MetaData()
    await move_to(empty_database_url, previous_revision())
    await on_connection(empty_database_url, previous.reflect)
    await upgrade(empty_database_url)
    reasons: list[str] = []
    await on_connection(
        empty_database_url, lambda connection: reasons.extend(incompatibilities(connection, previous))
    )
    assert reasons == []


async def test_this_version_works_on_the_next_schema(database_url: str, tmp_path: Path) -> None:
    await execute(
        database_url,
        "ALTER TABLE deployments ADD COLUMN novelty VARCHAR(10)",
        "ALTER TABLE clusters ADD COLUMN speed INTEGER NOT NULL DEFAULT 7",
        "CREATE TABLE novelties (id INTEGER PRIMARY KEY, name VARCHAR(10) NOT NULL)",
        FUTURE,
    )
    async with running_api(database_url, tmp_path, role="api") as api:
        ok(await api.http.get("/readyz"))
        await main_requests(api, "ada")
    assert await current_revision(database_url) == "future"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER TABLE decisions RENAME COLUMN waiting TO waits", "column decisions.waiting is missing"),
        ("ALTER TABLE decisions RENAME TO choices", "table decisions is missing"),
    ],
)
async def test_a_schema_that_lacks_something_is_refused(sqlite_url: str, change: str, reason: str) -> None:
    await execute(sqlite_url, change, FUTURE)
    with pytest.raises(StartupError, match=f"newer version.*{reason}"):
        await ensure_usable(sqlite_url)
    with pytest.raises(StartupError, match="newer version"):
        await upgrade(sqlite_url)


async def test_a_required_unknown_column_is_refused(postgresql_url: str) -> None:
    reasons: list[str] = []
    await execute(postgresql_url, "ALTER TABLE decisions ADD COLUMN weight INTEGER NOT NULL")
    await on_connection(
        postgresql_url, lambda connection: reasons.extend(incompatibilities(connection, Base.metadata))
    )
    assert reasons == ["column decisions.weight needs a value"]
